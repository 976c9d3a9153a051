"""Which rung is tried next, and for how long: pure rules over what has been tried so far.

There are two rungs, the model on this machine and then one elsewhere. The second is tried only where the policy allows
it, the first is known to be unsure, and there is time left; it is tried twice at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearsight_npu.policy import Policy

LOCAL = "local"
CLOUD = "cloud"
# How long the cloud may take, over all its tries, where the policy gives no budget.
CLOUD_MS = 20_000.0
# With less than this nothing comes back over a network, and something would have left for nothing.
LEAST_MS = 50.0
TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one rung.

    Attributes:
        rung: `LOCAL` or `CLOUD`.
        ms: milliseconds that it took, with any wait before it.
        confidence: how sure the answer is, 0 to 1; None where nobody can tell.
        error: why it gave no answer that can be used; empty where it did.
        retry_ms: milliseconds after which a second try may help; None where it would not.
    """

    rung: str
    ms: float
    confidence: float | None = None
    error: str = ""
    retry_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next.

    Attributes:
        rung: the rung to try; empty to stop with the answer that is there.
        reason: why, in words.
        wait_ms: milliseconds to wait before it.
        left_ms: milliseconds that it may take after the wait; None for no limit.
    """

    rung: str
    reason: str
    wait_ms: float = 0.0
    left_ms: float | None = None


def next_rung(policy: Policy, outcomes: Sequence[Outcome], *, picture: bool = False) -> Step:
    """Say which rung to try after these.

    Args:
        policy: how far the answer may go.
        outcomes: what was tried so far, in order.
        picture: whether the question is about a picture, and makes no sense without it.
    """
    if not outcomes:
        return Step(rung=LOCAL, reason="the first choice")
    last = outcomes[-1]
    if last.rung == CLOUD:
        return _after_cloud(policy, outcomes)
    kept = _kept_local(policy, last, picture=picture)
    if kept:
        return Step(rung="", reason=kept)
    return _cloud(policy, outcomes, f"{_sure(last)}, below the threshold {policy.threshold:.2f}")


def _kept_local(policy: Policy, local: Outcome, *, picture: bool) -> str:
    """Say why the local answer is kept; empty where the cloud is to be asked."""
    if not policy.cloud or policy.endpoint is None:
        return "nothing may leave this machine"
    if policy.threshold is None:
        return "the policy has no threshold, so the cloud is never asked"
    if local.confidence is None:
        return "nobody can tell how sure it is, so the cloud is not asked"
    if local.confidence >= policy.threshold:
        return f"{_sure(local)}, at or above the threshold {policy.threshold:.2f}"
    if policy.privacy == "nothing" or (policy.privacy == "text" and picture):
        what = "the picture" if policy.privacy == "text" else "anything"
        return f'{_sure(local)}; the cloud is not asked, since privacy="{policy.privacy}" keeps {what} here'
    return ""


def _sure(local: Outcome) -> str:
    return f"its confidence is {local.confidence:.2f}"


def _after_cloud(policy: Policy, outcomes: Sequence[Outcome]) -> Step:
    last = outcomes[-1]
    tries = sum(outcome.rung == CLOUD for outcome in outcomes)
    if not last.error or last.retry_ms is None or tries >= TRIES:
        return Step(rung="", reason="")
    return _cloud(policy, outcomes, "a second try follows", wait_ms=last.retry_ms)


def _cloud(policy: Policy, outcomes: Sequence[Outcome], reason: str, wait_ms: float = 0.0) -> Step:
    if policy.budget_ms is None:
        total, spent = CLOUD_MS, sum(outcome.ms for outcome in outcomes if outcome.rung == CLOUD)
    else:
        total, spent = float(policy.budget_ms), sum(outcome.ms for outcome in outcomes)
    left = total - spent
    if left - wait_ms < LEAST_MS:
        ahead = f"a second try in {wait_ms:.0f} ms" if wait_ms else f"{reason}; the cloud"
        return Step(rung="", reason=f"{ahead}: no time for it, with {max(left, 0):.0f} of {total:.0f} ms left")
    return Step(rung=CLOUD, reason=reason, wait_ms=wait_ms, left_ms=left - wait_ms)
