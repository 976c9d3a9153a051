"""The library's messages in the words of the command line: what is `budget_mb=5.0` there is `--budget-mb 5.0` here."""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# What `repr` gives of a text, a tuple or a list, a number or a constant; nothing where an argument is only named.
_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf|nan)|None|True|False"
_VALUE = rf"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\([^()]*\)|\[[^\[\]]*\]|{_NUMBER}|"""


def in_options(message: str, options: Mapping[str, str]) -> str:
    """Write the arguments of a library call that a message names as options.

    Args:
        message: one line of the library.
        options: name of an argument -> what it is called on the command line.
    """
    named = "|".join(map(re.escape, options))
    return re.sub(
        # Not in a path such as /data/mode=fast/model.onnx or bits=4.onnx.
        rf"(?<![\w./\\'\"-])({named})=((?>{_VALUE}))(?![/\\\w]|\.\w)",
        lambda found: " ".join((options[found[1]], *_words(found[2]))),
        message,
    )


def _words(value: str) -> tuple[str, ...]:
    """Give a Python value as it is typed on a command line."""
    try:
        read = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return (value,) if value else ()
    if isinstance(read, (tuple, list)):
        return tuple(shlex.quote(str(item)) for item in read)
    return (shlex.quote(read) if isinstance(read, str) else value,)
