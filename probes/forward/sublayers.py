"""From what is added to a block's attention and MLP outputs to what its residual stream changes by.

PMET's optimisation adds a δ to each. Nothing of the edited block depends on them but what follows
its attention at that one token: so the block runs on single tokens, with the attention's recorded
output in the place of what it would compute there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probes.forward.above import upper_part
from probes.forward.unhooked import Plain, reading


@dataclass(frozen=True)
class Sublayers:
    """The edited block at the subject of each row.

    Attributes:
        plain: The model.
        layer: The block, which is run.
        lower: The model without what lies below that block.
        ids: The subjects' last tokens.
        before: The residual stream before the block.
        attended: The attention's output.
        unedited: The residual stream after the block, as the block gives it for these.
    """

    plain: Plain
    layer: int
    lower: Any
    ids: Int[Tensor, "row 1"]
    before: Float[Tensor, "row d_model"]
    attended: Float[Tensor, "row d_model"]
    unedited: Float[Tensor, "row d_model"]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        plain: Plain,
        layer: int,
        ids: Int[Tensor, "row position"],
        at: Int[Tensor, " row"],
    ) -> Sublayers:
        """Records what no δ changes.

        Args:
            plain: The model.
            layer: The block.
            ids: The texts.
            at: Where each has its subject's last token.

        Returns:
            The block.

        Raises:
            UserError: If the block has no attention output that could be changed.
        """
        seen: dict[str, Tensor] = {}
        rows = torch.arange(len(ids), device=ids.device)

        def keep(name: str) -> Callable[[Tensor], None]:
            return lambda activation: seen.update({name: activation[rows, at]})

        readers = {(layer, site): keep(site) for site in ("resid_pre", "attention", "resid_post")}
        lower, skipped, _ = upper_part(plain, layer - 1)

        def as_given(_: nn.Module, __: Any, result: Any) -> None:
            for block in skipped:
                block.as_tuple = isinstance(result, tuple)

        with contextlib.ExitStack() as stack:
            block = plain.block(layer)
            stack.callback(block.register_forward_hook(as_given).remove)
            stack.enter_context(reading(plain, ids, readers))  # type: ignore[arg-type]
            plain.model.base_model(ids, use_cache=False)
        before, attended = seen["resid_pre"], seen["attention"]
        subjects = cls(
            plain, layer, lower, ids[rows, at, None], before, attended, torch.zeros_like(before)
        )
        nothing = before.new_zeros(len(before), 2, before.shape[1])
        return replace(subjects, unedited=subjects.moved(nothing))

    def keep(self, rows: Int[Tensor, " kept"]) -> Sublayers:
        """The same for some of the rows only."""
        kept = {name: getattr(self, name)[rows] for name in ("ids", "before", "attended")}
        return replace(self, **kept, unedited=self.unedited[rows])

    def moved(self, change: Float[Tensor, "row 2 d_model"]) -> Float[Tensor, "row d_model"]:
        """What the stream after the block changes by; gradients pass through.

        Args:
            change: What is added to the attention's output and to the MLP's.

        Returns:
            The change of the stream.
        """
        plain, layer = self.plain, self.layer
        attention, mlp = change.unbind(1)
        after: list[Tensor] = []

        def enter(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if given:
                return (self.before[:, None], *given[1:]), named
            return given, {**named, "hidden_states": self.before[:, None]}

        def attend(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            return (self.attended + attention).view_as(output)

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            return output + mlp.view_as(output)

        with contextlib.ExitStack() as stack:
            for handle in (
                plain.block(layer).register_forward_pre_hook(enter, with_kwargs=True),
                plain.attention_projection(layer).register_forward_hook(attend),
                plain.output_projection(layer).register_forward_hook(add),
            ):
                stack.callback(handle.remove)
            stack.enter_context(reading(plain, self.ids, {(layer, "resid_post"): after.append}))
            self.lower(self.ids, use_cache=False)
        return after[0][:, 0] - self.unedited
