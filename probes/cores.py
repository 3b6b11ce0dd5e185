"""Parts of a small problem side by side, a core for each.

A matrix product of a few hundred rows is over before a second core has joined in. Where a problem
falls into parts that do not touch one another, each core takes a part of its own instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


class Cores:
    """As many workers as PyTorch has threads; meanwhile PyTorch itself uses one for each.

    Use it as a context manager: PyTorch's setting comes back when the block ends.
    """

    def __init__(self, device: torch.device) -> None:
        """Counts the workers.

        Args:
            device: Where the parts are computed; anything but a CPU gets one worker.
        """
        self._threads = torch.get_num_threads()
        self.count = self._threads if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Cores:
        """Starts the workers."""
        if self.count > 1:
            torch.set_num_threads(1)  # new threads take this setting over
            self._pool = ThreadPoolExecutor(self.count)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            torch.set_num_threads(self._threads)

    def map(self, solve: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
        """Solves the parts side by side.

        Args:
            solve: Solves one; keeps its state to itself.
            parts: The parts.

        Returns:
            The results, in order.
        """
        if self._pool is None:
            return [solve(part) for part in parts]
        return list(self._pool.map(solve, parts))
