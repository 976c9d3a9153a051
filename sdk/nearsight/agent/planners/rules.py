"""The planner "nano": rules that turn a question in English or Chinese into calls of tools; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nearsight.agent.planners import chinese, english
from nearsight.agent.planners.beyond import is_beyond
from nearsight.agent.planners.cameras import take_cameras
from nearsight.agent.planners.wording import Heard
from nearsight.agent.steps import Plan, Step
from nearsight.agent.times import read_times
from nearsight.agent.timewords import GAP, is_chinese

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import ModuleType

    from nearsight.agent.planners.wording import Errand
    from nearsight.agent.times import Reading
    from nearsight.agent.tools import Tool

DEFAULT_K = 5
# A thing is said in a few words; what is longer was mostly not understood.
LONG_QUERY = {"en": 7, "zh": 12}
# What a sentence that no rule knows is worth: it is searched for as it stands.
UNKNOWN_SHARE = 0.4
SHORT_QUERY = {"en": 3, "zh": 5}
SHORT_SHARE = 0.8
# Any doubt takes so much, beside its words, and so lowers a plan below the usual threshold.
DOUBT = 0.3
_RULES: dict[str, ModuleType] = {"en": english, "zh": chinese}
_NOTES = {
    "no message": {
        "en": "the condition was not understood, so no message is planned; one that is: notify me if there is a dog",
        "zh": "条件没有理解，因此不安排通知；可以这样说：如果有狗就通知我",
    },
    "all time": {"en": "all recorded time was searched", "zh": "查找了全部时间"},
    "unclear": {"en": "not understood: {}", "zh": "未能理解：{}"},
    "no rule": {"en": "no rule knows this sentence, so it is searched for", "zh": "没有规则理解这句话，直接按字面搜索"},
    "beyond": {
        "en": 'what can be asked: was there a dog at gate-3 yesterday, how many cars today, what is in "a.jpg", '
        "are there people in a.jpg, notify me if there is a dog",
        "zh": "可以这样问：昨天3号门有没有狗、今天有几辆车、a.jpg里有什么、a.jpg里有几个人、如果有狗就通知我",
    },
    "like": {
        "en": "pictures that look like a file are found by: nearsight search {}",
        "zh": "查找与文件相似的照片请用：nearsight search {}",
    },
}
_QUOTED = r"\"[^\"]*\"|'[^']*'"
_CALL = re.compile(
    rf"(?:please\s+|请\s*)?(?P<name>[^\W\d]\w*)\s*(?:\((?P<inside>.*)\)|(?P<bare>(?:\s+\w+\s*=\s*(?:{_QUOTED}|[^\s=]+))*))[.!。！]?",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(rf"(?:(?P<name>\w+)\s*=\s*)?(?:(?P<quoted>{_QUOTED})|(?P<plain>[^\s,，=]+))")
_PICTURE_FILE = re.compile(
    r"[\"'“「](?P<quoted>[^\"'”」]+\.(?:jpe?g|png|webp|bmp|gif|tiff?|heic))[\"'”」]"
    r"|(?P<bare>[\w./~\\:-]+?\.(?:jpe?g|png|webp|bmp|gif|tiff?|heic))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# Chinese runs on before a path: "描述一下photos/cat.jpg", "猫.jpg和狗.jpg".
_RUN_ON = re.compile(
    r"^(?:[\u3400-\u9fff]+(?=[A-Za-z0-9~])"
    r"|(?:请|帮我|看看|看一?下?|描述|介绍|说说|讲讲|检测|识别|找|数|一下|和|与|及|在|图片(?!/)|照片(?!/))+(?=[^\s]))"
)
_LISTED = re.compile(r"\s*[,、，]\s*(?:and\s+)?(?=\w)")
_LIKE = re.compile(r"\b(?:like|similar(?:\s+to)?|resembling)\b|相似|类似|像|一样的")
_AROUND_A_FILE = re.compile(
    rf"\b(?:in|on|at)\s*(?:the\s+(?:picture|photo|image)\s*)?{GAP}"
    rf"|{GAP}\s*(?:这|那)?张?(?:图片?|照片|相片|画面)?(?:里面?|中|上面?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a planner may know.

    Attributes:
        now: what "today" counts from.
        cameras: names of the gallery's cameras.
        tools: everything that can be called.
    """

    now: datetime
    cameras: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()


class Planner(Protocol):
    """Whatever turns a question into a plan."""

    def plan(self, question: str, scene: Scene) -> Plan:
        """Plan; nothing is done yet."""


class RulePlanner:
    """The rules. They know one thing to look for, one time, cameras, picture files, and one condition for a message."""

    def plan(self, question: str, scene: Scene) -> Plan:
        """Turn a question into steps, and say how much of it was understood."""
        code = "zh" if is_chinese(question) else "en"
        called = call_of(question, scene.tools)
        if called is not None:
            return Plan(steps=(called,), language=code, intent="tool", confidence=1.0)
        errand = _RULES[code].errand(question)
        return _looking(question, scene, code) if errand is None else _telling(errand, scene, code)


def _telling(errand: Errand, scene: Scene, code: str) -> Plan:
    """Plan a message; one whose condition is anything but "there is a thing" is not planned at all."""
    if errand.message:
        step = Step(tool="notify", arguments={"message": errand.message})
        return Plan(steps=(step,), language=code, intent="notify", confidence=1.0)
    cameras, reading = _placed(errand.condition, scene)
    thing = _RULES[code].thing_that_is(reading.rest)
    if not thing or reading.unread or len(cameras) > 1:
        return Plan(steps=(), language=code, intent="notify", confidence=0.0, notes=(_NOTES["no message"][code],))
    notes = reading.notes if reading.span is not None else (*reading.notes, _NOTES["all time"][code])
    look = _look(Heard(intent="exists", query=thing), reading, (*cameras, "")[0])
    message = Step(tool="notify", arguments={"message": errand.condition}, if_found=True)
    return Plan(steps=(look, message), language=code, intent="notify", confidence=1.0, notes=notes)


def _looking(question: str, scene: Scene, code: str) -> Plan:
    """Plan a question that only looks."""
    files, rest = picture_files(question)
    if is_beyond(rest, code, about_a_file=bool(files)):
        return Plan(steps=(), language=code, intent="beyond", confidence=0.0, notes=(_NOTES["beyond"][code],))
    if files:
        return _at_files(files, rest, code)
    cameras, reading = _placed(rest, scene)
    heard: Heard = _RULES[code].hear(reading.rest)
    steps = tuple(_look(heard, reading, camera) for camera in cameras or ("",))
    confidence, notes = _understood(question, heard, reading, code)
    return Plan(
        steps=steps, language=code, intent=heard.intent or "find", confidence=confidence, notes=(*reading.notes, *notes)
    )


def _placed(text: str, scene: Scene) -> tuple[tuple[str, ...], Reading]:
    """Take cameras and times out of a text."""
    cameras, rest = take_cameras(text, scene.cameras, lambda words: read_times(words, scene.now).span is not None)
    return cameras, read_times(rest, scene.now)


def _look(heard: Heard, reading: Reading, camera: str) -> Step:
    after, before = reading.span.iso() if reading.span is not None else ("", "")
    arguments: dict[str, Any] = {"query": heard.query, "camera": camera, "after": after, "before": before}
    if heard.intent != "count":
        arguments["k"] = heard.k or DEFAULT_K
    return Step(
        tool="count" if heard.intent == "count" else "search", arguments=arguments, note="; ".join(reading.notes)
    )


def _understood(question: str, heard: Heard, reading: Reading, code: str) -> tuple[float, tuple[str, ...]]:
    """Say which share of a question was understood, and name what was not."""
    words = _RULES[code].words
    unclear = tuple(dict.fromkeys((*reading.unread, *heard.doubts)))
    query = words(heard.query)
    lost = sum(words(word) for word in unclear) + max(0, query - LONG_QUERY[code])
    share = max(0.0, 1.0 - lost / max(1, words(question)) - (DOUBT if unclear else 0.0))
    notes = [_NOTES["unclear"][code].format(", ".join(unclear))] if unclear else []
    if not heard.intent and query <= SHORT_QUERY[code]:
        # "a dog" and "昨天" are searched for, and nobody is surprised.
        share *= SHORT_SHARE
    elif not heard.intent:
        share *= UNKNOWN_SHARE
        notes.append(_NOTES["no rule"][code])
    return round(share, 2), tuple(notes)


def picture_files(question: str) -> tuple[tuple[str, ...], str]:
    """Take the picture files out of a question; a line break stands where they were."""
    files: list[str] = []

    def taken(found: re.Match[str]) -> str:
        path = found["quoted"] or found["bare"]
        lead = _RUN_ON.match(path) if not found["quoted"] else None
        files.append(path[lead.end() :] if lead else path)
        return (lead[0] if lead else "") + GAP

    rest = _PICTURE_FILE.sub(taken, question)
    return tuple(dict.fromkeys(files)), rest


def _at_files(files: tuple[str, ...], rest: str, code: str) -> Plan:
    """Plan a question about picture files."""
    if _LIKE.search(rest):
        note = _NOTES["like"][code].format(files[0])
        return Plan(steps=(), language=code, intent="find", confidence=0.0, notes=(note,))
    rules = _RULES[code]
    things: list[str] = []
    if rules.asks_for_things(rest):
        heard = rules.hear(_LISTED.sub({"en": " and ", "zh": "和"}[code], _AROUND_A_FILE.sub(GAP, rest)))
        things = rules.labels(heard.query)
    steps = tuple(
        Step(tool="detect", arguments={"image": file, "labels": things})
        if things
        else Step(tool="describe", arguments={"image": file})
        for file in files
    )
    return Plan(steps=steps, language=code, intent=steps[0].tool, confidence=1.0)


def call_of(question: str, tools: Sequence[Tool]) -> Step | None:
    """Read a question that is nothing but the call of one of the user's tools: its name, alone or with arguments."""
    found = _CALL.fullmatch(question.strip())
    tool = next((one for one in tools if not one.own and found is not None and one.name == found["name"]), None)
    if found is None or tool is None:
        return None
    kinds = {parameter.name: parameter.kind for parameter in tool.parameters}
    waiting, given = list(kinds), {}
    for number, part in enumerate(_ARGUMENT.finditer(found["inside"] or found["bare"] or "")):
        # One too many becomes an argument that the tool does not know, and is refused as such.
        name = part["name"] or (waiting[number] if number < len(waiting) else f"argument {number + 1}")
        text = part["plain"] if part["quoted"] is None else part["quoted"][1:-1]
        given[name] = _value(text, kinds.get(name, "str"))
    return Step(tool=tool.name, arguments=given)


def _value(text: str, kind: str) -> Any:
    """Read a value of a kind; what does not read as one stays text, and the check of the arguments says so."""
    if kind == "bool" and text.lower() in {"true", "false", "yes", "no"}:
        return text.lower() in {"true", "yes"}
    if kind == "list[str]":
        return [part.strip() for part in text.split(",")]
    try:
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except ValueError:
        return text
