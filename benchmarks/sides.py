"""What benchmarks share: models, and jobs timed in turn, so that other load hits all alike."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from probes import bundled
from probes.forward.engine import Prefer

ENGINES: tuple[Prefer, ...] = ("auto", "general", "fast")


class Timed(NamedTuple):
    """What a job returned, and how long it took.

    Attributes:
        result: What it returned.
        wall: Seconds by the clock.
        processor: Seconds that the process itself had, which other load does not lengthen.
    """

    result: Any
    wall: float
    processor: float


def timed(job: Callable[[], Any]) -> Timed:
    """Runs a job once."""
    wall, processor = time.perf_counter(), time.process_time()
    result = job()
    return Timed(result, time.perf_counter() - wall, time.process_time() - processor)


def settle() -> None:
    """Keeps searches for garbage among all that is loaded out of what is timed next."""
    gc.collect()
    gc.freeze()


def in_turn(jobs: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, Timed]:
    """Times jobs one after the other, turn by turn, after one turn that does not count.

    Args:
        jobs: The sides by name.
        turns: How many turns count.

    Returns:
        Each side's last result, and the shortest times it took.
    """
    for job in jobs.values():
        job()
    settle()
    taken: dict[str, list[Timed]] = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            taken[name].append(timed(job))
    return {
        name: Timed(times[-1].result, min(t.wall for t in times), min(t.processor for t in times))
        for name, times in taken.items()
    }


def random_gpt2(folder: Path, **config: int) -> Path:
    """Writes a GPT-2 with random weights and the bundled model's tokenizer.

    Args:
        folder: Where to.
        **config: What differs from GPT-2 small (12 blocks, d_model 768), whose vocabulary it
            keeps: the published way computes logits over all of it.

    Returns:
        The folder.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled.model_path())
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--engine``."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what runs our side: what serves any architecture, or what is written for GPT-2",
    )
