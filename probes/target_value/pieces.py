"""Rows in pieces: the way back through each is gone before the next is read.

A gradient needs what every block above the edited one computed, of every row that is read at once.
On a small model that is a third of the weights for one edit, and more for several. What the loss
weighs its readings by does not depend on them, so each piece can be done with by itself; only the
last one waits, because where an optimisation stops nobody asks for a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.model.loaded import LoadedModel
from probes.target_value.constants import Reads, Suffixes
from probes.target_value.reader import Reader

# What may be kept for a gradient at once: a share of the weights, and this many bytes anyway, for a
# small model is slow in pieces of few tokens: each of them reads all weights once more. A GPU holds
# more beside its weights, and steps are replayed there only in one piece.
OF_WEIGHTS, ANYWAY = 1 / 16, {"cpu": 2**28, "cuda": 2**32}


class Pieces:
    """Readers of rows that lie side by side, one after the other."""

    def __init__(
        self,
        make: Callable[[Suffixes, Reads], Reader],
        suffixes: Suffixes,
        reads: Reads,
        *,
        most: int,
        asked_for_leads: bool,
    ) -> None:
        """Makes a reader for each piece.

        Args:
            make: A reader of some rows.
            suffixes: All rows.
            reads: What is wanted of them.
            most: Rows of a piece.
            asked_for_leads: Whether :meth:`leads` is asked for.
        """
        self._asked_for_leads = asked_for_leads
        n = -(-len(suffixes) // most)
        stops = [len(suffixes) * (i + 1) // n for i in range(n)]
        self._rows = [slice(a, b) for a, b in zip([0, *stops], stops, strict=False)]
        self._places = [_within(reads.row, rows) for rows in self._rows]
        self._held = [_within(reads.held, rows) for rows in self._rows]
        self._readers = [
            make(suffixes[rows], _of_rows(reads, rows, places, held))
            for rows, places, held in zip(self._rows, self._places, self._held, strict=True)
        ]

    def read(
        self, change: Float[Tensor, "row d_model"], of_log_probs: Tensor, of_moved: Tensor
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Reads all rows, and goes back through all pieces but the last.

        Args:
            change: See :meth:`probes.target_value.reader.Reader.read`.
            of_log_probs: The gradient at the log-probabilities.
            of_moved: The gradient at the divergences.

        Returns:
            As there.
        """
        self._gradients: list[Tensor] = []
        self._leads: list[Tensor] = []
        read: list[tuple[Tensor, Tensor]] = []
        for i, reader in enumerate(self._readers):
            read.append(reader.read(change[self._rows[i]]))
            if self._asked_for_leads:
                self._leads.append(reader.leads())
            self._of_read = of_log_probs[self._places[i]], of_moved[self._held[i]]
            if i < len(self._readers) - 1:
                self._gradients.append(reader.gradient(*self._of_read))
        log_probs, moved = zip(*read, strict=True)
        return torch.cat(log_probs), torch.cat(moved)

    def leads(self) -> Bool[Tensor, " n"]:
        """See :meth:`probes.target_value.reader.Reader.leads`."""
        return torch.cat(self._leads)

    def gradient(self) -> Float[Tensor, "row d_model"]:
        """The gradient at the last ``change``, once."""
        return torch.cat([*self._gradients, self._readers[-1].gradient(*self._of_read)])


def most_rows(model: LoadedModel, width: int, kept: float) -> int:
    """How many rows may wait for their gradient together.

    Args:
        model: The model.
        width: Positions of a row.
        kept: Numbers that a reader keeps of each.

    Returns:
        At least one.
    """
    room = max(OF_WEIGHTS * model.weight_bytes, ANYWAY.get(model.device.type, ANYWAY["cpu"]))
    of_row = width * kept * getattr(torch, model.dtype).itemsize
    return max(1, int(room / of_row))


def _within(ascending: Int[Tensor, " n"], rows: slice) -> slice:
    """Which entries name one of these rows."""
    ends = ascending.new_tensor([rows.start, rows.stop])
    start, stop = torch.searchsorted(ascending, ends).tolist()
    return slice(start, stop)


def _of_rows(reads: Reads, rows: slice, places: slice, held: slice) -> Reads:
    return Reads(
        row=reads.row[places] - rows.start,
        position=reads.position[places],
        target=reads.target[places],
        held=reads.held[held] - rows.start,
        initial=reads.initial[held],
    )
