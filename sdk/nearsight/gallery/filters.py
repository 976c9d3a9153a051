"""Turn what a search may be narrowed by into one SQL condition; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nearsight.errors import InputError
from nearsight.gallery.times import moment

if TYPE_CHECKING:
    from datetime import date

_TIME = "(captured_zoned AND captured_s {0} ?) OR (NOT captured_zoned AND captured_s {0} ?)"


def condition(
    *,
    camera: str | None = None,
    after: str | date | None = None,
    before: str | date | None = None,
    where: Mapping[str, Any] | None = None,
) -> tuple[str, list[Any]]:
    """Give the SQL condition on `items` and its parameters; an empty text when nothing is asked.

    Args:
        camera: exact name.
        after: earliest capture time, inclusive.
        before: latest capture time, exclusive. Pictures without a capture time fail both bounds.
        where: metadata names and the values they must equal; None asks for pictures without that name (or with null).

    Raises:
        InputError: for a time that cannot be read or a value that is not text, number, truth value or None.
    """
    parts: list[str] = []
    parameters: list[Any] = []
    if camera is not None:
        if not isinstance(camera, str):
            raise InputError(f"camera={camera!r} is not a name; give text")
        parts.append("camera = ?")
        parameters.append(camera)
    for name, bound, sign in (("after", after, ">="), ("before", before, "<")):
        if bound is not None:
            point = moment(bound, name)
            parts.append(f"({_TIME.format(sign)})")
            parameters += [point.instant_s, point.wall_s]
    if where is not None and not isinstance(where, Mapping):
        raise InputError(f"where={where!r} is not a dict; give names and values of metadata")
    for name, value in (where or {}).items():
        if not isinstance(name, str) or not isinstance(value, (str, int, float, type(None))):
            raise InputError(f"where={{{name!r}: {value!r}}}: a value must be text, a number, True, False or None")
        found = "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND {})"
        if value is None:
            parts.append(f"NOT {found.format('value IS NOT NULL')}")
            parameters.append(name)
        else:
            # JSON's true and 1 are both 1 in SQL, and "red" and an object that prints as "red" both text.
            kinds = {bool: "'true', 'false'", str: "'text'"}.get(type(value), "'integer', 'real'")
            parts.append(found.format(f"type IN ({kinds}) AND value = ?"))
            parameters += [name, value]
    return " AND ".join(parts), parameters
