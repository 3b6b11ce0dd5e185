"""What perplexity says of downstream tasks, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.numbers import counted, number, times

Document = Mapping[str, Any]


def onset(document: Document) -> str:
    """From which perplexity ratio on tasks suffer, in a sentence."""
    loss = f"{in_points(document['limits']['tasks_loss'])} points"
    estimate = document["onset"]
    if estimate is None:
        return f"The monotone curve through the mean score nowhere falls by {loss}."
    ends = estimate["interval"]
    between = f" (95 % interval {times(ends[0])} to {times(ends[1])})" if ends else ""
    at = times(estimate["ratio"])
    return f"The mean score has fallen by {loss} at a perplexity ratio of {at}{between}."


def silence(document: Document) -> str:
    """How many edits perplexity says nothing about, in a sentence."""
    below = document["limits"]["perplexity_damaged"]
    return (
        f"Of {counted(document['suffering'], 'model')} whose tasks suffered, "
        f"{number(len(document['silent']))} had a perplexity ratio below {number(below)}."
    )


def in_points(change: float) -> str:
    """A change of a score, in points."""
    return number(100.0 * change)
