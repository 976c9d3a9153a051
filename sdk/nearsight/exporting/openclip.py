"""Encoders that open_clip builds, by architecture and tag, from a folder, or from the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.errors import ModelError
from nearsight.exporting.attention import spelled_out
from nearsight.exporting.towers import Towers, module, towers_traced
from nearsight.exporting.writing import Exported, weights_hash
from nearsight.families.hubfiles import OPEN_CLIP, TOKENIZER

if TYPE_CHECKING:
    import torch

NAMED, HUB, FOLDER = "open_clip:", "hf-hub:", "local-dir:"
# Source: the two special tokens of CLIP's vocabulary, as they are written in a tokenizer.json on the hub.
_START, _END = "<|startoftext|>", "<|endoftext|>"
# Source: how CLIP's vocabulary was made: contractions, runs of letters, single digits, runs of other signs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def is_open_clip(source: Path | str) -> bool:
    """Whether a source is for open_clip: `open_clip:NAME/TAG`, `hf-hub:OWNER/NAME`, or a folder with its config."""
    return str(source).startswith((NAMED, HUB)) or (Path(source) / OPEN_CLIP).is_file()


def exported_by_open_clip(source: Path | str, out: Path, *, batch: int | None) -> Exported:
    """Export one encoder.

    Args:
        source: A folder with `open_clip_config.json` and weights, `hf-hub:OWNER/NAME`, or
            `open_clip:ARCHITECTURE/TAG`, where TAG may be a file of weights.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.

    Raises:
        ModelError: If open_clip is missing, or the source cannot be read, or its text tower is of another kind.
    """
    model = _loaded(_library(), source)
    weights = weights_hash(model.state_dict().items())
    _folded(model)
    spelled_out(model)
    fixed, text, places = _text(model)
    towers = Towers(
        image=module(model.encode_image, model),
        text=text,
        size_wh=_size_wh(model),
        vocabulary=int(model.vocab_size),
        end=int(model.vocab_size) - 1,
        longest=places,
        fixed_text=fixed,
    )
    made = towers_traced(towers, out, batch)
    _write_config(model, out)
    _write_tokenizer(source, out)
    return Exported(
        graphs=made.graphs,
        golden=made.golden,
        settings={"fixed_text": made.fixed_text, "logit_scale": float(model.logit_scale.detach().exp().reshape(-1)[0])},
        assets=(OPEN_CLIP, TOKENIZER),
        dimensions=made.dimensions,
        weights=weights,
        repo=str(source),
    )


def _library() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ModelError(
            f"exporting needs torch and open_clip; install them: pip install 'nearsight[export]' ({error})"
        ) from error
    return open_clip


def _loaded(library: Any, source: Path | str) -> Any:
    name, tag = str(source), None
    if name.startswith(NAMED):
        name, _, tag = name.removeprefix(NAMED).partition("/")
    elif not name.startswith(HUB):
        name = f"{FOLDER}{Path(name)}"
    try:
        # Without weights nothing is exported: a random model finds nothing.
        model = library.create_model(name, pretrained=tag or None, require_pretrained=True)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{source} was to be exported; open_clip cannot make it: {line}") from error
    return model.eval().requires_grad_(False)


def _folded(model: torch.nn.Module) -> None:
    """Fold the training-time branches of a picture tower into one, where it has such; the answers stay the same."""
    from timm.utils import reparameterize_model

    trunk = getattr(model.visual, "trunk", None)
    if trunk is not None:
        model.visual.trunk = reparameterize_model(trunk)


def _text(model: Any) -> tuple[bool, torch.nn.Module, int]:
    """Give whether texts are of one length, the text tower, and how many tokens it takes.

    Where each token sees only what stands before it, what follows the end is of no consequence: short texts are
    encoded as short ones, which open_clip itself does not do.
    """
    held = getattr(model, "text", model)
    if not hasattr(held, "positional_embedding") or not hasattr(held, "token_embedding"):
        raise ModelError(
            f"the text tower {type(held).__name__} is not one of open_clip's own; export with transformers"
        )
    places = int(held.positional_embedding.shape[0])
    causal = getattr(held, "attn_mask", None) is not None and held is model and model.text_pool_type == "argmax"
    return (False, _short_texts(model), places) if causal else (True, module(model.encode_text, model), places)


def _short_texts(model: Any) -> torch.nn.Module:
    from open_clip.transformer import text_global_pool

    def encoded(ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        seen = model.token_embedding(ids) + model.positional_embedding[:length]
        seen = model.ln_final(model.transformer(seen, attn_mask=model.attn_mask[:length, :length]))
        pooled: torch.Tensor = text_global_pool(seen, ids, model.text_pool_type)
        project = model.text_projection
        return project(pooled) if callable(project) else pooled @ project

    return module(encoded, model)


def _size_wh(model: Any) -> tuple[int, int]:
    size = model.visual.image_size
    return (int(size), int(size)) if isinstance(size, int) else (int(size[1]), int(size[0]))


def _write_config(model: Any, out: Path) -> None:
    """Write how pictures are prepared, in open_clip's own form."""
    width, height = _size_wh(model)
    stated = {key: value for key, value in model.visual.preprocess_cfg.items() if key != "size"}
    page = {
        "model_cfg": {"vision_cfg": {"image_size": width if width == height else [height, width]}},
        "preprocess_cfg": {**stated, "size": [height, width]},
    }
    (out / OPEN_CLIP).write_text(json.dumps(page, indent=2) + "\n", encoding="utf8")


def _write_tokenizer(source: Path | str, out: Path) -> None:
    """Copy the source's `tokenizer.json`, or make one of the vocabulary that open_clip brings."""
    there = Path(source) / TOKENIZER
    if there.is_file():
        shutil.copyfile(there, out / TOKENIZER)
    else:
        clip_tokenizer().save(str(out / TOKENIZER))


def clip_tokenizer() -> Any:
    """Make CLIP's tokenizer of the vocabulary that open_clip brings: a `tokenizers.Tokenizer`."""
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    own = SimpleTokenizer()
    start, end = own.sot_token_id, own.eot_token_id
    vocabulary = {piece: number for piece, number in own.encoder.items() if number not in (start, end)}
    vocabulary |= {_START: start, _END: end}
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.get)
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{_START} $0 {_END}", special_tokens=[(_START, start), (_END, end)]
    )
    made.add_special_tokens([AddedToken(token, normalized=False) for token in (_START, _END)])
    return made
