"""Several processes at one task, started by ``torchrun``: who am I, and what do we share.

Only plain values and sums travel, as JSON and tensors, never as pickles.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch import distributed as dist

Backend = Literal["auto", "gloo", "nccl"]

# Ranks may wait for one another as long as the longest shard takes.
PATIENCE = datetime.timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes results and shows progress."""
        return self.rank == 0

    def mine(self, index: int) -> bool:
        """Whether piece ``index`` of the work is this process's."""
        return index % self.size == self.rank

    def wait(self) -> None:
        """Waits until all have come here."""
        if self.size > 1:
            # A sum instead of a barrier: it works alike with every backend.
            self.add(torch.zeros(1, dtype=torch.float64))

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on the CPU."""
        if self.size == 1:
            return tensor
        there = tensor.to(_meeting_place())
        dist.all_reduce(there)
        return there.cpu()

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """All processes' tensors of one shape, in their order, on the CPU."""
        if self.size == 1:
            return [tensor]
        there = tensor.to(_meeting_place()).contiguous()
        parts = [torch.empty_like(there) for _ in range(self.size)]
        dist.all_gather(parts, there)
        return [part.cpu() for part in parts]

    def share(self, value: Any) -> Any:
        """The first process's value, for all.

        Args:
            value: Plain JSON values.

        Returns:
            What the first process gave.
        """
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.is_first else b""
        length = int(self.add(torch.tensor([len(text)], dtype=torch.int64)))
        padded = torch.zeros(length, dtype=torch.int64)
        if self.is_first:
            padded[:] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        return json.loads(bytes(self.add(padded).tolist()))


@contextlib.contextmanager
def ranks(backend: Backend = "auto") -> Iterator[Ranks]:
    """Joins the processes that ``torchrun`` has started; alone, there is nothing to join.

    Args:
        backend: ``auto`` takes nccl where every process has a GPU of its own.

    Yields:
        The processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if dist.is_initialized():  # by the command around this call, or by the caller
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    own_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= int(
        os.environ.get("LOCAL_WORLD_SIZE", "1")
    )
    if own_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if backend == "auto":
        backend = "nccl" if own_gpu else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # nobody takes the group down while another still talks to it
    finally:
        dist.destroy_process_group()


def _meeting_place() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
