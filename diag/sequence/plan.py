"""Which method makes which edits of a list, and how many together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.metrics import Geometry
from diag.mathematics.steps import steps
from diag.sequence.listed import Listed
from rome_diagnosis.methods import MethodKey

Role = Literal["along", "divide_by", "subtract"]


@dataclass(frozen=True)
class Plan:
    """Edits of a list and what makes them.

    Attributes:
        listed: The list.
        chosen: Places in the list of the edits that are made, in order.
        geometry: The edited layer under the method that makes them.
        batch: How many are made together.
        instead: Other methods by the place of the edit in the list, where every edit is solved by
            itself.
        consistent: Whether δ is added to the value that is subtracted, whatever it is then.
    """

    listed: Listed
    chosen: tuple[int, ...]
    geometry: Geometry
    batch: int = 1
    instead: Mapping[int, Geometry] = field(default_factory=dict)
    consistent: bool = False

    @classmethod
    def all_by(
        cls, listed: Listed, geometry: Geometry, batch: int = 1, *, consistent: bool = False
    ) -> Plan:
        """Every edit of a list by one method."""
        chosen = tuple(range(len(listed)))
        return cls(listed, chosen, geometry, batch, consistent=consistent)

    def without(self, left_out: Collection[int]) -> Plan:
        """The plan without some edits of the list; batches close up."""
        return replace(self, chosen=tuple(i for i in self.chosen if i not in left_out))

    def with_method(self, geometry: Geometry, at: Collection[int]) -> Plan:
        """The plan with another method for some edits of the list."""
        return replace(self, instead={**self.instead, **dict.fromkeys(at, geometry)})

    def bare(self, of: Mapping[MethodKey, Tensor]) -> Tensor:
        """The bare prompt's row of each edit that is made."""
        return of["bare"][self._at]

    def rows(self, of: Mapping[MethodKey, Tensor], role: Role) -> Tensor:
        """The keys or values that the methods put into a place of their equation.

        Args:
            of: By name of a key.
            role: The place.

        Returns:
            One row for each edit that is made.
        """
        rows = of[getattr(self.geometry.method, role)][self._at]
        if self.instead:
            rows = rows.clone()
        for row, i in enumerate(self.chosen):
            if i in self.instead:
                rows[row] = of[getattr(self.instead[i].method, role)][i]
        return rows

    @cached_property
    def alone(self) -> Float[Tensor, "m d_mlp"]:
        """Each edit's w as if it were made first, and by itself."""
        return self._steps(batch=1, remember=False)

    @cached_property
    def steps(self) -> Float[Tensor, "m d_mlp"]:
        """Each edit's w in its place.

        Raises:
            ZeroDivisionError: If a batch's M is singular.
        """
        method = self.geometry.method
        if not method.together or (self.batch == 1 and not method.remembers):
            return self.alone
        return self._steps(batch=self.batch, remember=True)

    def _steps(self, *, batch: int, remember: bool) -> Tensor:
        along, below = (self.rows(self.listed.keys, role) for role in ("along", "divide_by"))
        rows = steps(self.geometry, along, below, batch=batch, remember=remember)
        for geometry in {id(other): other for other in self.instead.values()}.values():
            own = [row for row, i in enumerate(self.chosen) if self.instead.get(i) is geometry]
            rows[own] = steps(geometry, along[own], below[own])
        return rows

    @property
    def _at(self) -> Tensor | slice:
        if len(self.chosen) == len(self.listed):
            return slice(None)
        return torch.tensor(self.chosen, dtype=torch.long)
