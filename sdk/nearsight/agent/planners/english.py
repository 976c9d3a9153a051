"""The rules for English sentences; pure."""

from __future__ import annotations

import re

from nearsight.agent.planners.wording import Errand, Form, Heard, errand_in, form_of
from nearsight.agent.timewords import ENGLISH, number


def _any(phrases: str) -> str:
    """Write a pattern for any of the phrases, which a comma divides."""
    return f"(?:{'|'.join(phrase.strip() for phrase in phrases.split(','))})"


_POLITE = re.compile(
    "^(?:"
    + _any(
        "please, hey, hi, hello, ok, okay, now, can you, could you, would you, will you, can i, could i, may i, "
        "let me, let's, i want to, i would like to, i'd like to, i need to, help me, tell me, i'm, i am, we are, we're"
    )
    + r"\b[\s,]*)+"
)
_BE = _any("is, are, was, were, 's")
_NUMBERS = _any(", ".join((r"\d+", *ENGLISH, "twenty")))
_PICTURES = _any("pictures?, photos?, photographs?, images?, shots?, snapshots?, snaps?, frames?")
_NEWEST = _any("latest, newest, last, most recent, recent, best")
_COUNT = re.compile(
    r"\b(?:how many|(?:what(?:'s| is| was) )?(?:the )?(?:total )?number of|count(?: up)?(?: all)?(?: of)?|how often)\b"
)
_WHAT = re.compile(
    r"^(?:what (?:happened|was happening|has happened|else happened"
    rf"|{_BE}(?: (?:there|going on|happening|up|new|recorded|seen)|$))"
    r"|what's (?:going on|happening|there|new)|did anything happen|anything (?:happen(?:ing|ed)?|new)"
    r"|what did(?: .*)? (?:see|show|record|capture|film)$)\b"
)
_WHO = re.compile(rf"^(?:who (?:{_BE}|came|passed|entered|left|walked|visited|appeared|stood)|who's)\b")
_ANYONE = re.compile(rf"\b{_any('anyone, anybody, someone, somebody, any people, any person')}\b")
_ANYTHING = re.compile(r"^(?:anything|something)\b")
_FIND = re.compile(
    r"^(?:(?:show|find)(?: me| us)?|search(?: for)?|look(?:ing)?(?: up| for| at)?|give me|get(?: me)?|list|display"
    r"|bring up|pull up|fetch|see|i want|i need|which camera (?:saw|has seen|recorded)"
    rf"|which {_PICTURES} (?:show|have|contain|are of)"
    rf"|(?:where|when|(?:at )?what time) (?:{_BE}|did|do|does|has|have)(?: (?:you|we|i) (?:last )?(?:see|spot))?)\b"
)
_EXISTS = re.compile(
    rf"^(?:{_BE}|did|do|does|has|have|any sign of|any|got)\b(?:\s+there\b(?:\s+been\b)?)?"
    r"(?:\s+(?:(?:it|this|that|the picture|the photo)\s+)?(?:have|contain|show|include)\b)?"
    r"(?:\s+(?:you|we|i|the camera|cameras?)\s+"
    rf"{_any('see, seen, spot, spotted, notice, noticed, record, recorded, find, found, have')}\b)?"
)
_THERE = re.compile(
    rf"^(?:if )?(?:there (?:{_BE}|has been|have been)|you (?:see|saw|spot|notice|find)|we (?:see|saw))\b"
)
_OF_PICTURES = re.compile(
    rf"^(?:(?:the|any|some|all|every|each|my|our) )*(?:{_NEWEST} )*{_PICTURES}"
    rf"(?:\s+(?:of|with|showing|containing|that show|that have|where(?: there {_BE})?|in which|which show))?(?:\s+|$)"
)
_HOW_MANY = re.compile(rf"^(?:(?:the|top|first|best|last) )*({_NUMBERS})\s+(?:{_NEWEST}\s+)?(?={_PICTURES}\b)")
_ARTICLE = re.compile(
    "^(?:"
    + _any("a, an, the, any, some, all, every, each, of, my, our, that, those, these, been, me, us, for, at, only")
    + r"\s+)+"
)
_TAIL = re.compile(
    r"(?:^|\s+)"
    + _any(
        "there, here, then, seen, visible, taken, recorded, captured, made, detected, spotted, shot, passed, passing, "
        "came, coming, went, going, were, was, is, are, be, been, appeared, arrived, arriving, stopped, drove, "
        "entered, left, crossed, parked, standing, waiting, right now, now, walked, drove by, showed up, that, who, "
        "which, in it, in this, in that, on it, on this, on that, pictures, photos, images, by, through, past, and, "
        "at, on, in, the, of, from, around, near, to, did, do, does, have, has, had, we, you, i, see, saw, please, "
        "too, in the gallery, in my gallery, in this gallery, in the album, in my album, in the collection, "
        "in my collection, gallery, album"
    )
    + "$"
)
# After "did a bus ..." the bare verb is no part of the thing; in "is there a bus stop" it is.
_BARE = re.compile(
    r"(?:^|\s+)"
    + _any(
        "pass, come, go, appear, arrive, stop, drive, enter, leave, cross, walk, show up, park, turn up, run, ride, "
        "visit, wait, stand"
    )
    + r"(?:\s+(?:by|through|past|in|out|up|here|there|around))*$"
)
_DOUBTFUL = re.compile(
    r"\d+|\b"
    + _any(
        "i, you, he, she, it, we, they, me, him, her, us, them, my, your, his, its, our, their, this, these, "
        "those, is, are, was, were, be, been, am, do, does, did, have, has, had, can, could, will, would, shall, "
        "should, must, pass, passed, came, come, went, go, gone, entered, drove, stopped, stop, took, take, saw, "
        "see, seen, get, got, make, made, show, tell, next, last, now, later, earlier, minutes?, hours?, days?, "
        "weeks?, months?, years?, which, who, whom, why, than, most, least, compare, compared, between, after, "
        "before, because, whether, how, what, when, where, if, unless, except, not, without, then, but, while, "
        "during, until, since, same, different, total, average, ago, oldest, or, empty, no, nobody, nothing, never, "
        "none, more, less, fewer, each, every, times, first, [a-z]+iest"
    )
    + r"\b"
)
_TOLD = (
    rf"(?:{_any('notify, alert, warn, inform, ping, message, text, remind')}(?: (?:me|us))?|let (?:me|us) know|"
    r"send (?:me |us )?(?:an? )?(?:message|alert|notification|note|warning))"
)
_IF = _any("if, when, whenever, once, as soon as, in case")
_ERRAND = re.compile(
    rf"^(?:(?:please|can you|could you|will you) )*(?:{_TOLD}(?: (?:me|us|that|saying|{_IF})\b|:)"
    rf"|tell (?:me|us) (?:that|{_IF})\b)|^{_IF}\b.*\b{_TOLD}$",
    re.IGNORECASE | re.DOTALL,
)
_MESSAGE = re.compile(
    rf"^(?:please )?(?:{_TOLD}|tell (?:me|us))\s*(?:that\b|saying\b|:)\s*(?P<message>.+)$", re.IGNORECASE | re.DOTALL
)
_CONDITIONAL = re.compile(rf"\b(?:{_IF}|unless)\b", re.IGNORECASE)
_CONDITIONS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"^(?:please )?(?:{_TOLD}|tell (?:me|us)) {_IF} (?P<condition>.+)$",
        rf"^{_IF} (?P<condition>.+?),?\s+(?:then\s+)?(?:please\s+)?{_TOLD}$",
    )
)
# All that a condition may be, once its camera and time are taken out: that there is a thing.
_THERE_IS = re.compile(
    r"there(?: (?:is|are|was|were|has been|have been)|'s) (?:(?:a|an|any|some|the) )?(?P<thing>[a-z' -]+)",
    re.IGNORECASE,
)
_UNPLAIN = re.compile(
    r"\b"
    + _any(
        "no, not, none, nobody, nothing, neither, nor, never, without, and, or, but, except, only, just, more, "
        "fewer, less, least, most, over, under, exactly, about, dozens?, couple, pair, several, many, few, much, "
        "lots?, plenty, enough, too, hundreds?, twenty, both, every, all, each, another, other, else, if, unless, "
        "while, lack, absence, shortage, hardly, barely, zero, than, instead, again, twice, missing, "
        + ", ".join(ENGLISH)
    )
    + r"\b|n't\b"
)
_WHAT_IS_IN = re.compile(
    rf"\b(?:describe|caption|summari[sz]e|explain|what(?:'s|\s+{_BE})?\s+(?:in|on|shown|visible|happening|going)"
    r"|what do you see|what does|what can|what is this|tell me about)\b"
)
_THINGS = re.compile(
    rf"\b(?:detect|look(?:ing)? for|search for|locate|find|count|how many|mark|box|{_BE} there|has|have|any|does"
    rf"|can you see|do you see|{_BE} .* visible|^{_BE} (?:an?|the|any\w*|some\w*) .*(?:in|on|at)$)\b"
)

# Kind of question, how it is found, and how it begins where a bare verb follows: "did a bus pass".
_FORMS: tuple[Form, ...] = (
    ("count", _COUNT.search, ""),
    ("what", _WHAT.match, ()),
    ("exists", _WHO.match, ""),
    ("exists", _THERE.match, ()),
    ("find", _FIND.match, ("where", "when", "what", "at")),
    ("exists", _EXISTS.match, ("did", "do", "does", "has", "have")),
)


def errand(text: str) -> Errand | None:
    """Read "notify me that ..." and "notify me if ..."; None where nobody wants to be told anything."""
    plain = " ".join(text.split()).rstrip("?.! ")
    return errand_in(plain, _ERRAND, _MESSAGE, _CONDITIONAL, _CONDITIONS)


def thing_that_is(text: str) -> str:
    """Read "there is a dog", camera and time taken out; "" for any other or more complex condition."""
    found = _THERE_IS.fullmatch(" ".join(text.split()))
    if found is None or _UNPLAIN.search(found["thing"].lower()) or _DOUBTFUL.search(found["thing"].lower()):
        return ""
    return _ANYONE.sub("person", found["thing"])


def hear(text: str) -> Heard:
    """Read a sentence without camera, times and files."""
    rest = " ".join(re.sub(r"[?!,;:\n]|\.(?=\s|$)", " ", text).split())
    plain = _POLITE.sub("", rest.lower())
    plain = re.sub(r"^(?:check |see )?(?:if|whether)\s+|\s+(?:can|could) you (?:find|show|list)\b.*$", "", plain)
    intent, found, asking = form_of(plain, _FORMS)
    query, k = plain[found.end() :] if found else plain, None
    if intent == "count":
        # "how many dogs" names the thing after, "dogs: how many" before.
        query = query or plain[: found.start() if found else 0]
    elif found is not None and found.re is _WHO:
        query = f"person {query}"
    query = query.strip()
    if (many := _HOW_MANY.match(query)) is not None:
        k, query = int(number(many[1])), query[many.end() :]
    query = _thing(query, verbs=found is None or found[0].startswith(asking))
    # The words as they were written: names keep their capitals.
    place = rest.lower().find(query)
    kept = rest[place : place + len(query)] if place >= 0 else query
    return Heard(intent=intent, query=kept, k=k, doubts=tuple(_DOUBTFUL.findall(query)))


def _thing(query: str, *, verbs: bool) -> str:
    """Reduce "any photos of a red truck there" to "red truck"."""
    query = _ANYTHING.sub("", _ANYONE.sub("person", query)).strip()
    before = None
    while query != before:
        before = query
        query = _OF_PICTURES.sub("", query)
        query = _ARTICLE.sub("", query + " ").strip()
        query = _TAIL.sub("", query).strip()
        if verbs:
            query = _BARE.sub("", query).strip()
    return query


def asks_for_things(text: str) -> bool:
    """Tell "are there cars in it" from "what is in it"."""
    plain = " ".join(text.lower().split()).rstrip("?.! ")
    if _WHAT_IS_IN.search(plain):
        return False
    return _THINGS.search(plain) is not None


def labels(query: str) -> list[str]:
    """Split "cars and people"."""
    query = re.sub(r"^(?:detect|locate|mark|box|find|count)\s+", "", query.lower())
    parts = re.split(r"\s*,\s*(?:and\s+)?|\s+(?:and|or)\s+|\s*/\s*", query)
    return [name for part in parts if (name := _thing(part, verbs=False))]


def words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())
