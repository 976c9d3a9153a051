"""Encoders that transformers builds, from a folder saved the hub's way or from a name on the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearsight.errors import ModelError
from nearsight.exporting.hubfolder import kept_files, loaded, pictures_file
from nearsight.exporting.towers import Towers, module, towers_traced
from nearsight.exporting.writing import Exported, weights_hash
from nearsight.families.hubfiles import TOKENIZER_CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def exported_by_transformers(
    source: Path | str,
    out: Path,
    *,
    kinds: Sequence[str],
    longest: int,
    batch: int | None,
    masked: bool = False,
    fixed_text: bool = False,
    output: str = "",
) -> Exported:
    """Export one encoder.

    Args:
        source: A folder, or a name on the hub.
        out: The folder to write to.
        kinds: The classes of transformers that will do.
        longest: Most tokens of a text; the model's own number of places, if that is less.
        batch: How many a run takes; None lets it vary.
        masked: Whether the text tower takes a mask.
        fixed_text: Whether every text is filled up to the longest.
        output: What both graphs call their output; empty for `image_embeds` and `text_embeds`.

    Raises:
        ModelError: If the source cannot be read as one of these classes, or lacks its tokenizer or picture processor.
    """
    model = loaded(source, kinds)
    text, vision = model.config.text_config, model.config.vision_config
    places = min(longest, int(text.max_position_embeddings))
    towers = Towers(
        image=module(lambda pixels: _vectors(model.get_image_features(pixel_values=pixels)), model),
        text=module(_text_call(model, masked=masked), model),
        image_output=output or "image_embeds",
        text_output=output or "text_embeds",
        size_wh=(int(vision.image_size),) * 2,
        vocabulary=int(text.vocab_size),
        end=min(int(text.eos_token_id or text.vocab_size - 1), int(text.vocab_size) - 1),
        longest=places,
        fixed_text=fixed_text,
        masked=masked,
    )
    made = towers_traced(towers, out, batch)
    assets = [*kept_files(source, out), pictures_file(source, out)]
    assets += [TOKENIZER_CONFIG] if (out / TOKENIZER_CONFIG).is_file() else []
    for name in assets:
        if not (out / name).is_file():
            raise ModelError(f"{source} was to be exported; transformers writes no {name} for it; no encoder was made")
    return Exported(
        graphs=made.graphs,
        golden=made.golden,
        settings={"fixed_text": made.fixed_text, **_logits(model)},
        assets=assets,
        dimensions=made.dimensions,
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def _text_call(model: Any, *, masked: bool) -> Any:
    if masked:
        return lambda ids, mask: _vectors(model.get_text_features(input_ids=ids, attention_mask=mask))
    return lambda ids: _vectors(model.get_text_features(input_ids=ids))


def _vectors(found: Any) -> Any:
    # Source: transformers 5 gives an output object where earlier versions gave the tensor.
    return getattr(found, "pooler_output", found)


def _logits(model: Any) -> dict[str, float]:
    """Give what turns a cosine into the model's own score: scale, and bias where it has one."""
    found = {"logit_scale": float(model.logit_scale.detach().exp().reshape(-1)[0])}
    bias = getattr(model, "logit_bias", None)
    return found if bias is None else found | {"logit_bias": float(bias.detach().reshape(-1)[0])}
