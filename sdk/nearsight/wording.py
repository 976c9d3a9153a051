"""Words for a relevance and for a decision: what a person reads says no more than the numbers support."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nearsight_npu import Decision

STRONG = 0.8
# A threshold below this only takes out what was ruled out: nobody calibrated that model's relevance.
CALIBRATED = 0.005
LIKELY = 0.7  # not below the threshold of nano: what is hidden by default is not called likely


def relevance_words(relevance: float) -> str:
    """Say how far a hit can be trusted.

    Args:
        relevance: calibrated probability that the picture is right, 0 to 1.

    Returns:
        "strong match" from 0.8, "likely match" from 0.7, else "weak match".
    """
    if relevance >= STRONG:
        return "strong match"
    return "likely match" if relevance >= LIKELY else "weak match"


def count_in_words(relevances: Iterable[float]) -> str:
    """Count hits by how far they can be trusted: "1 strong match, 3 weak matches"."""
    counts = Counter(relevance_words(relevance) for relevance in relevances)
    return ", ".join(f"{count} {words}{'es' if count > 1 else ''}" for words, count in counts.items())


def decision_words(decision: Decision | None) -> str:
    """Say in one line where an answer was computed, how fast, and what left the machine.

    Args:
        decision: the delegate's account; None where nothing was computed.

    Returns:
        For example "cpu, w4, 5.1 ms; nothing left the machine".
    """
    if decision is None:
        return "nothing was computed"
    measured = decision.measured
    latency = f", {measured.latency_ms:.1f} ms" if measured is not None else ""
    left = f"sent: {decision.sent}" if decision.sent else "nothing left the machine"
    return f"{decision.target}, {decision.precision}{latency}; {left}"
