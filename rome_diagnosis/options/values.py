"""What an option takes: the kinds of values, and what stands for one that was not given."""

from __future__ import annotations

import argparse
import math
from typing import Literal

from rome_diagnosis.defaults import LARGEST_COUNT, LARGEST_SEED

Options = argparse.ArgumentParser | argparse._ArgumentGroup

UNSET = argparse.SUPPRESS


def seed(text: str) -> int:
    """Reads a seed: a whole number every generator takes."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text[:40]!r}") from error
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LARGEST_SEED}, not {text[:40]}")
    return value


def count(text: str) -> int:
    """Reads a number of things: a whole number from 1."""
    return _whole(text, least=1)


def natural(text: str) -> int:
    """Reads a whole number from 0."""
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text[:40]!r}") from error
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more, not {value}")
    return min(value, LARGEST_COUNT)


def positive(text: str) -> float:
    """Reads a finite number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text[:40]}")
    return value


def parameter(text: str) -> float:
    """Reads a finite number from 0."""
    return 0.0 if float(text) == 0 else positive(text)


def layers(text: str) -> tuple[int, ...] | Literal["all"]:
    """Reads ``5``, ``1,2,5`` or ``all``: the blocks in ascending order, each once."""
    if text == "all":
        return "all"
    try:
        named = sorted(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a block: give a number, several as 1,2,5, or all"
        ) from error
    if len(set(named)) < len(named):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} names a block twice")
    return tuple(named)
