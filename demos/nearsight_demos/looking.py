"""Tables and sentences about detections and captions; pure."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from nearsight_demos.cards import Html, bar, joined, note, table, title

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import nearsight as ns


def labels_of(text: str) -> list[str]:
    """Take the labels, each once, out of a text with commas of either script."""
    return list(dict.fromkeys(label.strip() for label in re.split(r"[,，、;；\n]", text) if label.strip()))


def found(answer: ns.Detections, say: Callable[..., str]) -> Html:
    """Show what was found, and what cannot be judged."""
    rows = [
        (one["label"], float(one["score"]), one["class"] or "–", say(f"route {one['route']}"))
        for one in answer.to_dicts()
    ]
    heads = [say(key) for key in ("label", "score", "class", "route")]
    unjudged = note(say("unjudged", labels=", ".join(answer.unjudged)), "ns-caution") if answer.unjudged else ""
    if not rows:
        return joined(note(say("nothing found")), unjudged)
    return joined(title(say("count", n=len(rows))), table(heads, rows), unjudged)


def described(captions: Sequence[ns.Caption], say: Callable[..., str]) -> Html:
    """Show captions with how sure they are, and a caution."""
    parts = [part for caption in captions for part in _caption(caption, say)]
    return joined(*parts, note(say("caution"), "ns-caution"))


def replied(answer: ns.Caption, say: Callable[..., str]) -> Html:
    """Show the answer to a question about a picture, and a caution."""
    return joined(title(say("reply")), _said(answer), note(say("caution"), "ns-caution"))


def _said(caption: ns.Caption) -> Html:
    return Html(f"<p class='ns-said' lang='{escape(caption.language)}'>{escape(caption.text)}</p>")


def _caption(caption: ns.Caption, say: Callable[..., str]) -> tuple[Html, ...]:
    said = _said(caption)
    head, checked = title(say(f"language {caption.language}")), _checked(caption, say)
    if caption.confidence is None:
        return head, said, checked
    sure = f"<p class='ns-small'>{escape(say('confidence'))} {caption.confidence:.2f}</p>"
    return head, said, checked, Html(f"<div class='ns-confidence'>{bar(caption.confidence)}{sure}</div>")


def _checked(caption: ns.Caption, say: Callable[..., str]) -> Html:
    """Show for each noun whether it was seen; nothing where none was checked."""
    nouns = (
        f"<span class='ns-noun{'' if seen else ' ns-doubted'}'>{escape(noun)}: "
        f"{escape(say('noun seen' if seen else 'noun unsupported'))}</span>"
        for noun, seen in caption.grounding
    )
    return Html(f"<p class='ns-nouns'>{''.join(nouns)}</p>" if caption.grounding else "")
