"""Which camera a sentence names: a known one however written ("Gate 3", "3号门"), or one that is not there; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nearsight.agent.timewords import ENGLISH, GAP, is_chinese, number

if TYPE_CHECKING:
    from collections.abc import Callable

# A name of fewer letters than this is mostly some other word.
SHORT = 4
_SIGNS = "一二三四五六七八九"
_AT = "at|from|in|on|by|near|via|outside|inside"
_LEAD = rf"(?:\b(?:{_AT})\s+)?(?:the\s+)?(?:camera\s+)?"
_MUST_LEAD = rf"\b(?:{_AT}|to|into|through|past|around)\s+(?:the\s+)?(?:camera\s+)?"
_LEAD_ZH = r"(?:(?<!现)在|从|由)?(?:摄像头|摄像机|相机|镜头)?"
_TAIL_ZH = (
    r"(?:的?(?:摄像头|摄像机|相机|镜头|画面))?"
    r"(?:里面?|上(?![周个月午次星礼上])|处|那里|那边|附近|门口|外面)?(?:的)?"
)
# What a numbered place is called in Chinese, and what its camera may be called.
_PLACES = {
    "门": ("gate", "door", "entrance", "门"), "路口": ("junction", "crossing", "intersection", "corner", "路口"),
    "楼": ("building", "block", "楼"), "出口": ("exit", "出口"), "入口": ("entrance", "entry", "入口"),
    "摄像头": (), "相机": (), "机位": (), "镜头": (), "摄像机": (), "机": (),
}  # fmt: skip
_NUMBERED = re.compile(
    rf"(?:(?<!现)在|从|由)?(?P<n>\d+|[{_SIGNS}十]{{1,3}})号(?:大|侧|电梯)?(?P<place>{'|'.join(_PLACES)})口?{_TAIL_ZH}"
)
# Names that are clearly meant as a camera though the gallery knows none like it.
_STRANGER = re.compile(
    rf"\b(?:{_AT}|passed?|past)\s+(?:the\s+)?(?:camera\s+)?"
    r"(?P<a>(?:gate|door|camera|cam|entrance|exit|lobby|dock|hall)[\s_-]*\d+|[a-z]+[-_]\d+)\b"
    r"|\b(?:from|on|at|of)\s+(?:the\s+)?camera\s+(?P<b>[\w-]+)|\b(?P<c>camera\s*\d+)\b",
    re.IGNORECASE,
)


def take_cameras(text: str, known: tuple[str, ...], is_time: Callable[[str], bool]) -> tuple[tuple[str, ...], str]:
    """Take all cameras out of a sentence.

    Args:
        text: the sentence.
        known: names of the gallery's cameras.
        is_time: whether words name a time; such words ("at noon") are never taken for a camera.

    Returns:
        Names as the gallery writes them, or as the sentence does where the gallery knows no such camera; and the
        sentence without them, a line break where one was.
    """
    found: list[str] = []
    for name in sorted(filter(None, known), key=len, reverse=True):
        matches = [match for match in _spelt(name).finditer(text) if not is_time(match[0].strip())]
        found += [name] if matches else []
        for match in reversed(matches):
            text = text[: match.start()] + GAP + text[match.end() :]

    def numbered(match: re.Match[str]) -> str:
        found.append(_of_number(match, known))
        return GAP

    text = _NUMBERED.sub(numbered, text)
    stranger = _STRANGER.search(text)
    if stranger is not None:
        found.append(next(filter(None, stranger.groups())))
        text = text[: stranger.start()] + GAP + text[stranger.end() :]
    # "at gate-3 and gate-7": the word between two that were taken out.
    text = re.sub(rf"{GAP}\s*(?:and|or|,|和|与|或|、)\s*{GAP}", GAP, text)
    return tuple(dict.fromkeys(found)), text


def _spelt(name: str) -> re.Pattern[str]:
    """Write the pattern of a name: any case, blanks for hyphens, "three" for 3; a plain word needs "at" before it."""
    pieces = re.findall(r"\d+|[^\W\d_]+|[^\w\s-]+", name) or [name]
    inner = r"[\s_-]*".join(_piece(piece) for piece in pieces)
    if is_chinese(name) and len(name) > 1:
        return re.compile(f"{_LEAD_ZH}{inner}{_TAIL_ZH}", re.IGNORECASE)
    guarded = rf"(?<![A-Za-z0-9]){inner}(?![A-Za-z0-9])"
    if name.isdecimal() or (name.isalpha() and len(name) < SHORT):
        # "3" and "a" are cameras only where the sentence says so.
        said = rf"(?:\b(?:{_AT})\s+)?(?:the\s+)?(?:camera|cam)\s*{guarded}"
        return re.compile(rf"{said}|(?:摄像头|摄像机|相机|镜头)\s*{guarded}{_TAIL_ZH}", re.IGNORECASE)
    plain = len(pieces) == 1 and pieces[0].isalpha()
    lead = _MUST_LEAD if plain else _LEAD
    zh = f"{_LEAD_ZH}{guarded}{_TAIL_ZH}"
    camera = rf"{guarded}\s+camera\b|\bcamera\s+{guarded}"
    around = rf"(?<=[^\x00-\x7f])\s*{zh}|(?:在|从|由){zh}|^{zh}(?=\s*[^\x00-\x7f])"
    return re.compile(rf"{lead}(?:{camera}|{guarded})|{camera}|{around}", re.IGNORECASE)


def _piece(piece: str) -> str:
    if not piece.isdecimal():
        return re.escape(piece)
    words = [ENGLISH[int(piece) - 1]] if 1 <= int(piece) <= len(ENGLISH) else []
    return f"(?:{'|'.join([f'0*{int(piece)}', *words])})"


def _of_number(match: re.Match[str], known: tuple[str, ...]) -> str:
    """Find the camera behind "3号门"; the words themselves where none, or more than one, fits."""
    wanted, kinds = int(number(match["n"])), _PLACES[match["place"]]
    fitting = [
        name
        for name in known
        if [int(digits) for digits in re.findall(r"\d+", name)] == [wanted]
        and (not kinds or name.isdecimal() or any(kind in name.casefold() for kind in kinds))
    ]
    return fitting[0] if len(fitting) == 1 else re.sub(rf"^(?:在|从|由)|{_TAIL_ZH}$", "", match[0])
