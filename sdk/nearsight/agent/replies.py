"""What an agent says, in English and Chinese: what was found, where it looked, and how sure that is; pure.

Words say no more than the numbers: nothing found is an answer, with the best relevance there was; a number of pictures
is called an estimate; where there were no pictures to look at, that is said instead of "no".
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nearsight.wording import CALIBRATED, LIKELY, STRONG

if TYPE_CHECKING:
    from nearsight.agent.steps import Plan, Step
    from nearsight.values import Hit

# Each sentence in both languages; what stands in braces is filled in.
_TEMPLATES: dict[str, tuple[str, str]] = {
    "nothing planned": ("No tool here answers this.", "没有工具可以回答这个问题。"),
    "notes": ("({}.)", "（{}。）"),
    "at": (" at {}", "在{}"),
    "on": (" on {}", "{}"),
    "from to": (" from {} to {}", "{}至{}"),
    "since": (" since {}", "{}以来"),
    "until": (" before {}", "{}之前"),
    "empty": ("There are no pictures{scope}.", "{scope}没有照片。"),
    "all": ("Number of pictures{scope}: {count}{some}.", "{scope}共有{count}张照片{some}。"),
    "some": ("; the newest {} are listed", "，列出最新的{}张"),
    "yes": ("Yes: ", "有："),
    "likely": ("Probably yes: ", "很可能有："),
    "perhaps": ("Perhaps: ", "也许有："),
    "events": ('recorded events of "{query}"{scope}: {count}.', "{scope}有{count}条“{query}”的事件记录。"),
    "or more": ("{} or more", "至少{}"),
    "matches": (
        '{count} of {total} pictures match "{query}"{scope}; the best has relevance {best:.2f}{taken}.',
        "{scope}{total}张照片中有{count}张符合“{query}”，最相关的相关度为{best:.2f}{taken}。",
    ),
    "nearest": (
        'this model is not calibrated, so it names the nearest to "{query}"{scope}, of {total}: {best:.2f}{taken}.',
        "图库所用模型未经校准，只能给出最接近的：{scope}{total}张照片中与“{query}”最接近的相关度为{best:.2f}{taken}。",
    ),
    "taken": (", taken {}", "，拍摄于{}"),
    "by": (" by {}", "（{}）"),
    "unknown": (
        'There are no pictures{scope}{timed}, so nothing can be said about "{query}".',
        "{scope}没有照片{timed}，因此无法判断有没有“{query}”。",
    ),
    "timed": (" (those without a time are not looked at)", "（没有时间的照片未计入）"),
    "none": (
        'Nothing matches "{query}"{scope}: the best of {total} pictures has relevance {best:.2f}, below {least:.2f}.',
        "{scope}没有符合“{query}”的照片：{total}张中最高相关度为{best:.2f}，低于{least:.2f}。",
    ),
    "counted events": (
        '"{query}"{scope}: {count} ({kinds}; from {events} recorded events, each tracked thing once).',
        "{scope}“{query}”共{count}个（{kinds}；依据{events}条事件记录，同一目标只计一次）。",
    ),
    "how crossing": ("crossed a line{}: {}", "越线{}{}个"),
    "how appeared": ("appeared{}: {}", "出现{}{}个"),
    "how none": ("none in that time", "该时段没有"),
    "uncounted": (" Cameras that never recorded such events are left out: {}.", "没有这类事件记录的摄像头未计入：{}。"),
    "counted pictures": (
        '{count} of {total} pictures match "{query}"{scope}: an estimate of pictures, not things (limit {least:.2f}).',
        "{scope}{total}张照片中有{count}张符合“{query}”。这里数的是相关度不低于{least:.2f}的照片，不是物体的个数，属于估计。",
    ),
    "sure": (" (a small model's guess, confidence {:.2f})", "（小模型的猜测，置信度{:.2f}）"),
    "file": ("{}: {}", "{}：{}"),
    "boxes": ("{label}: {count}", "{label}{count}个"),
    "no labels": ("nothing was looked for", "没有可以检测的目标"),
    "similar": ("; only something like {} was seen, not exactly that", "；只看到与{}相近的东西，未必就是"),
    "weak": (
        "; the evidence for {} is weak: the detector was not made for such things, so not found says little",
        "；{}不在检测器的类别之内，证据很弱，没找到不等于没有",
    ),
    "unjudged": ("; {} cannot be judged", "；无法判断{}"),
    "stop": (".", "。"),
    "message not sent": ('The message "{}" was not sent: {}.', "消息“{}”没有发送：{}。"),
    "not called": ("{} was not called: {}.", "没有调用{}：{}。"),
    "why refused": ("it needs approval", "需要批准"),
    "why nothing found": ("the condition does not hold", "条件不成立"),
    "why unknown": (
        "nothing could be looked at or told, so nobody knows",
        "没有可看的照片或无法判断，条件是否成立不得而知",
    ),
    "no camera": (
        'There is no camera "{}" in this gallery; there are: {}.',
        "图库里没有摄像头“{}”；现有：{}。",
    ),
    "no names": ("none with a name", "没有命名的摄像头"),
    "failed": ("{} could not be done: {}.", "{}未能完成：{}。"),
    "sent": ('The message "{}" was sent.', "已发送消息“{}”。"),
}


def reply(plan: Plan, steps: tuple[Step, ...]) -> str:
    """Put an answer into words.

    Args:
        plan: what was understood.
        steps: what was done.
    """
    speak = _Speech(plan.language)
    parts = [speak.sentence(step, plan.intent) for step in steps] or [speak("nothing planned")]
    if plan.notes:
        parts.append(speak("notes", ("; " if speak.english else "；").join(plan.notes)))
    return (" " if speak.english else "").join(parts)


class _Speech:
    """The templates of one language, filled in."""

    def __init__(self, language: str) -> None:
        self.english = language != "zh"
        self.comma = ", " if self.english else "、"

    def __call__(self, name: str, *given: Any, **named: Any) -> str:
        return _TEMPLATES[name][0 if self.english else 1].format(*given, **named)

    def sentence(self, step: Step, intent: str) -> str:
        result = step.result if isinstance(step.result, dict) else {}
        if step.status == "failed" and "cameras" in result:
            return self("no camera", result["camera"], self.comma.join(result["cameras"]) or self("no names"))
        if step.status == "failed":
            return self("failed", step.tool, _one_line(result["error"]))
        if step.status in {"refused", "skipped"}:
            return self._not_done(step, result)
        if step.tool == "search":
            return self._searched(step, result, exists=intent in {"exists", "notify"})
        if step.tool == "count":
            return self._counted(step, result)
        if step.tool == "describe":
            sure = "" if result["confidence"] is None else self("sure", result["confidence"])
            return self("file", step.arguments["image"], _one_line(result["text"]) + sure)
        if step.tool == "detect":
            return self._detected(step.arguments["image"], result)
        if step.tool == "notify":
            return self("sent", _one_line(result["sent"]))
        return self("file", step.tool, _one_line(result.get("value", result)))

    def _not_done(self, step: Step, result: dict[str, Any]) -> str:
        why = self(f"why {result.get('why', step.status)}")
        if step.tool == "notify":
            return self("message not sent", _one_line(step.arguments["message"]), why)
        return self("not called", step.tool, why)

    def _scope(self, arguments: dict[str, Any]) -> str:
        after, before = (arguments[name] and datetime.fromisoformat(arguments[name]) for name in ("after", "before"))
        camera = self("at", arguments["camera"]) if arguments["camera"] else ""
        if after and before:
            whole = self("on", f"{after:%Y-%m-%d}") if _is_a_day(after, before) else ""
            time = whole or self("from to", _when(after), _when(before))
        else:
            time = self("since", _when(after)) if after else self("until", _when(before)) if before else ""
        return camera + time if self.english else f"{time}{camera}，" if time or camera else ""

    def _searched(self, step: Step, result: dict[str, Any], *, exists: bool) -> str:
        matches = result["matches"]
        told = {"scope": self._scope(step.arguments), "query": step.arguments["query"]}
        if result["basis"] == "all":
            if not matches:
                return self("empty", **told)
            some = self("some", len(step.items)) if matches > len(step.items) else ""
            return self("all", count=matches, some=some, **told)
        if result["basis"] == "events":
            said = (self("yes") if exists else "") + self("events", count=matches, **told)
            return said[0].upper() + said[1:]
        if not matches:
            return self._none(step, told, result)
        best = step.items[0]
        if result["min_relevance"] < CALIBRATED:
            return self._nearest(step, told, result)
        sure = self("yes" if best.relevance >= STRONG else "likely" if best.relevance >= LIKELY else "perhaps")
        amount = self("or more", matches) if matches == step.arguments["k"] else matches
        total, taken = result["total_considered"], self._taken(best)
        return (sure if exists else "") + self(
            "matches", count=amount, total=total, best=best.relevance, taken=taken, **told
        )

    def _nearest(self, step: Step, told: dict[str, str], result: dict[str, Any]) -> str:
        """Say what is nearest, where no threshold tells what matches."""
        best, total = step.items[0], result["total_considered"]
        said = self("nearest", total=total, best=best.relevance, taken=self._taken(best), **told)
        return said[0].upper() + said[1:]

    def _taken(self, best: Hit) -> str:
        taken = self("taken", _when(best.captured_at)) if best.captured_at else ""
        return taken + (self("by", best.camera) if best.camera else "")

    def _none(self, step: Step, told: dict[str, str], result: dict[str, Any]) -> str:
        total, best, least = (result[name] for name in ("total_considered", "best_relevance", "min_relevance"))
        if total:
            return self("none", total=total, best=best, least=least, **told)
        timed = self("timed") if step.arguments["after"] or step.arguments["before"] else ""
        return self("unknown", timed=timed, **told)

    def _counted(self, step: Step, result: dict[str, Any]) -> str:
        count = result["count"]
        told = {"scope": self._scope(step.arguments), "query": step.arguments["query"]}
        if result["basis"] == "all":
            return self("all", count=count, some="", **told)
        if result["basis"] == "events":
            kinds = [
                self(f"how {kind}", self("at", place) if place else "", number)
                for kind, places in result["kinds"].items()
                for place, number in places.items()
            ]
            listed = self.comma.join(kinds) or self("how none")
            left = self("uncounted", self.comma.join(result["uncounted"])) if result["uncounted"] else ""
            return self("counted events", count=count, kinds=listed, events=result["events"], **told) + left
        if not count:
            return self._none(step, told, result)
        total, least = result["total_considered"], result["min_relevance"]
        if least < CALIBRATED:
            return self._nearest(step, told, result)
        return self("counted pictures", count=count, total=total, least=least, **told)

    def _detected(self, image: str, result: dict[str, Any]) -> str:
        unjudged, similar = result["unjudged"], result["similar"]
        judged = {label: count for label, count in result["counts"].items() if label not in unjudged}
        boxes = [self("boxes", label=label, count=count) for label, count in judged.items()]
        text = self.comma.join(boxes) or self("no labels")
        text += self("similar", self.comma.join(similar)) if similar else ""
        text += self("weak", self.comma.join(result["weak"])) if result["weak"] else ""
        text += self("unjudged", self.comma.join(unjudged)) if unjudged else ""
        return self("file", image, text + self("stop"))


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _is_a_day(after: datetime, before: datetime) -> bool:
    return before - after == timedelta(days=1) and (after.hour, after.minute, after.second) == (0, 0, 0)
