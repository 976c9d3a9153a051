"""What a captioner gives: the caption, and what its confidence is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearsight_npu import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What was said about a picture.

    Attributes:
        text: one sentence; nano's in lower case and without a full stop, other models' as they write. An answer may
            be longer.
        language: "en" or "zh".
        confidence: 0 to 1, the estimated chance that the caption is better than half of what this model says about
            photographs of the kind it was trained on; None where another machine or a full-size model spoke,
            whom nobody here has calibrated.
        grounding: (noun, whether it was seen) for each concrete noun that `nouns.toml` knows; a noun that was not
            seen is unsupported: it is likelier not in the picture than there.
        decision: the delegate's account, over all runs that the caption took.
    """

    text: str
    language: str
    confidence: float | None
    grounding: tuple[tuple[str, bool], ...] = ()
    decision: Decision

    def to_dict(self) -> dict[str, Any]:
        """Give the caption in the form of `nearsight caption --json`."""
        return {
            "text": self.text,
            "language": self.language,
            "confidence": self.confidence,
            "grounding": [list(row) for row in self.grounding],
            "decision": self.decision.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was said, and what its confidence is judged by.

    Attributes:
        text: the sentence.
        sureness: geometric mean of the probabilities of its pieces.
        agreement: cosine of the sentence's vector and the picture's.
    """

    text: str
    sureness: float
    agreement: float
