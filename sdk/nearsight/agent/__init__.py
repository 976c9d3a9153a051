"""Questions in, tools called, answers out."""

from __future__ import annotations

from nearsight.agent.loop import Agent
from nearsight.agent.steps import Answer, Step

__all__ = ["Agent", "Answer", "Step"]
