"""A reader whose steps a GPU replays.

Every step of one optimisation launches the same kernels on the same tensors, some thousand of them,
and on a small model a GPU waits for Python to do so. So the second step is recorded as two CUDA
graphs, the reading and the way back, and later ones are replayed: the kernels are the same, and so
are the results. A model whose own code waits for the device within a step cannot be recorded, and
runs as before.
"""

from __future__ import annotations

from weakref import WeakSet

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.target_value.reader import Reader

_NOT_RECORDED: WeakSet[torch.nn.Module] = WeakSet()


class Replayed:
    """See :class:`probes.target_value.reader.Reader`."""

    def __init__(self, reader: Reader, model: torch.nn.Module) -> None:
        """Records nothing yet.

        Args:
            reader: What is replayed.
            model: Whose kernels are launched; one that could not be recorded is not tried again.
        """
        self._reader, self._model = reader, model
        self._recorded: _Recorded | None = None
        self._once = False  # the first step settles what is allocated and chosen on first use

    def read(self, change: Float[Tensor, "row d_model"]) -> tuple[Tensor, Tensor]:
        """See :class:`probes.target_value.reader.Reader`."""
        if self._once and self._recorded is None and self._model not in _NOT_RECORDED:
            device = change.device
            # A recording that fails leaves its own stream in charge.
            with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
                try:
                    self._recorded = _Recorded(self._reader, change)
                except RuntimeError as error:
                    if not _cannot_be_recorded(error):
                        raise
                    _NOT_RECORDED.add(self._model)
        self._once = True
        if self._recorded is None:
            return self._reader.read(change)
        return self._recorded.read(change)

    def leads(self) -> Bool[Tensor, " n"]:
        """See :class:`probes.target_value.reader.Reader`."""
        return self._reader.leads() if self._recorded is None else self._recorded.leads

    def gradient(self, log_probs: Tensor, moved: Tensor) -> Float[Tensor, "row d_model"]:
        """See :class:`probes.target_value.reader.Reader`."""
        if self._recorded is None:
            return self._reader.gradient(log_probs, moved)
        return self._recorded.gradient(log_probs, moved)


def _cannot_be_recorded(error: RuntimeError) -> bool:
    """Whether a step is sound but no recording: CUDA says so, or memory for both is lacking."""
    return isinstance(error, torch.OutOfMemoryError) or "captur" in str(error)


class _Recorded:
    """Two CUDA graphs and the tensors that they read and write."""

    def __init__(self, reader: Reader, like: Tensor) -> None:
        self._change = like.clone()
        self._read, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        with torch.cuda.graph(self._read, stream=stream):
            self._outputs = reader.read(self._change.detach())
            self.leads = reader.leads()
        self._weights = tuple(torch.ones_like(output) for output in self._outputs)
        with torch.cuda.graph(self._back, pool=self._read.pool(), stream=stream):
            self._gradient = reader.gradient(*self._weights)

    def read(self, change: Tensor) -> tuple[Tensor, Tensor]:
        self._change.copy_(change)
        self._read.replay()
        log_probs, moved = self._outputs
        return log_probs.clone(), moved.clone()

    def gradient(self, *weights: Tensor) -> Tensor:
        for kept, given in zip(self._weights, weights, strict=True):
            kept.copy_(given)
        self._back.replay()
        return self._gradient.clone()
