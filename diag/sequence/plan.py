"""Which editor makes which edits of a list."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from diag.sequence.listed import Listed
from rome_diagnosis.editors import EDITORS, Editor, Key

Role = Literal["along", "divide_by", "subtract"]


@dataclass(frozen=True)
class Plan:
    """Edits of a list and the editor of each.

    Attributes:
        listed: The list.
        chosen: Which of its edits are made, in order.
        editors: The editor of each of these.
    """

    listed: Listed
    chosen: tuple[int, ...]
    editors: tuple[Editor, ...]

    @classmethod
    def all_by(cls, listed: Listed, editor: str) -> Plan:
        """Every edit of a list by one editor, by name."""
        return cls(listed, tuple(range(len(listed))), (EDITORS[editor],) * len(listed))

    def without(self, left_out: Collection[int]) -> Plan:
        """The plan without some edits of the list."""
        pairs = zip(self.chosen, self.editors, strict=True)
        rest = [(i, editor) for i, editor in pairs if i not in left_out]
        return Plan(self.listed, tuple(i for i, _ in rest), tuple(editor for _, editor in rest))

    def with_editor(self, editor: str, at: Collection[int]) -> Plan:
        """The plan with another editor, by name, for some edits of the list."""
        pairs = zip(self.chosen, self.editors, strict=True)
        return replace(
            self, editors=tuple(EDITORS[editor] if i in at else own for i, own in pairs)
        )  # fmt: skip

    def bare(self, of: Mapping[Key, Tensor]) -> Tensor:
        """The bare prompt's row of each edit that is made."""
        return of["bare"][torch.tensor(self.chosen, dtype=torch.long)]

    def rows(self, of: Mapping[Key, Tensor], role: Role) -> Tensor:
        """The keys, directions or values that the editors put into a place of their equation.

        Args:
            of: By name, ``bare`` and ``mean``.
            role: The place.

        Returns:
            One row for each edit that is made.
        """
        at = torch.tensor(self.chosen, dtype=torch.long)
        mean = torch.tensor([getattr(editor, role) == "mean" for editor in self.editors])
        return torch.where(mean[:, None], of["mean"][at], of["bare"][at])
