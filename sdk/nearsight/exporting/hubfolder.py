"""Reads a model in the form in which the hub keeps it, and copies what has to lie beside its graphs."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nearsight.errors import ModelError
from nearsight.exporting.writing import origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MISSING = "exporting needs torch and transformers; install them: pip install 'nearsight[export]'"


def transformers_module() -> Any:
    """Give transformers.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModelError(f"{MISSING} ({error})") from error
    return transformers


def named(source: Path | str) -> dict[str, str]:
    """Give what `from_pretrained` takes for a folder, for a name on the hub, or for `OWNER/NAME@REVISION`."""
    name, revision = origin(source)
    return {"pretrained_model_name_or_path": name, **({"revision": revision} if revision else {})}


def loaded(source: Path | str, kinds: Sequence[str]) -> Any:
    """Load a model with its weights, in single precision and with plain attention, ready to be traced.

    Args:
        source: A folder, or a name on the hub.
        kinds: The classes of transformers that will do; the first is taken where the model names none of them.

    Raises:
        ModelError: If transformers is missing, the source cannot be read, is another model, or lacks weights.
    """
    transformers = transformers_module()
    import torch

    wanted = " or ".join(kinds)
    try:
        with _quiet(transformers):
            stated = transformers.AutoConfig.from_pretrained(**named(source)).architectures or kinds[:1]
            kind = next((one for one in stated if one in kinds), None)
            if kind is None:
                raise ModelError(
                    f"{source} was to be exported as {wanted}; it is {', '.join(stated)}; name its own family"
                )
            model, found = getattr(transformers, kind).from_pretrained(
                **named(source), attn_implementation="eager", dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} was to be exported; it cannot be read as {wanted}: {_line(error)}") from error
    # transformers draws weights that are missing by chance, and goes on.
    lacking = sorted(map(str, {*found["missing_keys"], *found["mismatched_keys"]}))
    if lacking:
        raise ModelError(
            f"{source} was to be exported; {len(lacking)} of its weights are missing or of another shape, such as "
            f"{lacking[0]}; get its files again"
        )
    return model.eval().requires_grad_(False)


def kept_files(source: Path | str, out: Path) -> list[str]:
    """Write the model's configuration, preprocessing and tokenizer into a folder; give their names.

    Raises:
        ModelError: If the source lacks one of them.
    """
    transformers = transformers_module()
    try:
        transformers.AutoConfig.from_pretrained(**named(source)).save_pretrained(out)
        transformers.AutoTokenizer.from_pretrained(**named(source)).save_pretrained(out)
        names = ["config.json", "tokenizer.json"]
        if (out / "generation_config.json").is_file() or _generation(transformers, source, out):
            names.append("generation_config.json")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source} was to be exported; its tokenizer or configuration is missing: {_line(error)}"
        ) from error
    return names


def pictures_file(source: Path | str, out: Path) -> str:
    """Write `preprocessor_config.json`; give its name.

    Raises:
        ModelError: If the source has none.
    """
    transformers = transformers_module()
    try:
        transformers.AutoImageProcessor.from_pretrained(**named(source)).save_pretrained(out)
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} was to be exported; its picture processor is missing: {_line(error)}") from error
    return "preprocessor_config.json"


def _generation(transformers: Any, source: Path | str, out: Path) -> bool:
    # This one names its argument in another way.
    where = named(source)
    name = where.pop("pretrained_model_name_or_path")
    try:
        transformers.GenerationConfig.from_pretrained(name, **where).save_pretrained(out)
    except OSError:
        # Not every model has one; its config says what is needed then.
        return False
    return True


def processor_size(out: Path) -> tuple[int, int]:
    """Read width and height of the pixels from the `preprocessor_config.json` that was written into a folder."""
    page = json.loads((out / "preprocessor_config.json").read_text(encoding="utf8"))
    size = page["crop_size"] if page.get("do_center_crop") else page["size"]
    return int(size["width"]), int(size["height"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep reports and bars of transformers from the terminal; what is wrong is raised."""
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before[0])
        if before[1]:
            logging.enable_progress_bar()
