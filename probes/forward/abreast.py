"""Independent pieces of work on a CPU, two at a time, each with half of the cores.

A product of matrices that stay in a core's cache is no faster on several cores than what lies
between two products allows; two pieces side by side fill each other's gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

ABREAST = 2  # more would hold more activations at once
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def at_a_time() -> int:
    """How many pieces are worked on at the same time."""
    return ABREAST if torch.get_num_threads() >= ABREAST else 1


def abreast(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Applies a function to pieces of work, two at a time where there are two cores.

    Args:
        work: Computes without gradients on a CPU, and changes nothing that another piece reads:
            no hooks on modules that pieces share.
        pieces: What it is applied to.

    Yields:
        Its results, in the pieces' order.
    """
    cores = torch.get_num_threads()
    if at_a_time() == 1:
        yield from map(work, pieces)
        return
    inference = torch.is_inference_mode_enabled()

    def in_mode(piece: Piece) -> Result:
        # A thread's own, too; a result of the caller's mode is not written to in another.
        with torch.inference_mode(inference):
            return work(piece)

    # The number of cores of an operation is the calling thread's own.
    with ThreadPoolExecutor(ABREAST, "abreast", torch.set_num_threads, (cores // ABREAST,)) as pool:
        try:
            yield from pool.map(in_mode, pieces)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # what threads that begin later take for their own
