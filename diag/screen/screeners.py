"""A screener for each block, all of them from one pass over an edit's texts.

Keys of all blocks are read at once. Second moments stay in memory where all of them fit; elsewhere
they are read again for each shard, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from diag.screen.shard import Measured, Screener, able
from probes.keys.many_edits import SharedPrefixes
from probes.request.request import Request
from probes.second_moment import cost as forecast
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.method_file import MethodFile

Moments = Callable[[], Iterable[tuple[int, SecondMoment]]]


class Screeners:
    """One screener for each block, all of the same contexts.

    Attributes:
        shared: Model, blocks and contexts.
        hyperparameters: How v* is optimised, and so how long its δ gets.
        seed: Seed of the bootstrap over contexts.
        methods: Methods whose columns are added to the published editor's.
        described: For each block what documents say of it: its number, second moment and norm.
        moments: For each block what its second moment is told from others by.
    """

    def __init__(
        self,
        shared: SharedPrefixes,
        find: Moments,
        hyperparameters: Hyperparameters,
        seed: int,
        methods: Sequence[MethodFile],
    ) -> None:
        """Looks at every second moment once.

        Args:
            shared: Model, blocks and contexts.
            find: Gives each block's second moment, one after another.
            hyperparameters: How v* is optimised.
            seed: Seed of the bootstrap over contexts.
            methods: Methods whose columns are added to the published editor's.
        """
        self.methods = tuple(methods)
        self.shared, self.hyperparameters, self.seed = shared, hyperparameters, seed
        self._find = find
        self._kept: list[Screener] = []
        self.described: list[dict[str, Any]] = []
        self.moments: list[list[Any]] = []
        # C and its factor, of every block.
        matrices, width = [*shared.layers, *shared.layers], int(shared.model.config.d_mlp)
        fit = len(shared.layers) == 1 or len(forecast.groups(matrices, width, halves=False)) == 1
        for layer, moment in find():
            screener = self._screener(layer, moment)
            self.moments.append([moment.describe(), *moment.eigenvalues])
            self.described.append(
                {
                    "layer": layer,
                    "second_moment": moment.describe(shared.model.computed_in),
                    "residual_norm": screener.stream.unit,
                }
            )
            if fit:
                self._kept.append(screener)

    def __iter__(self) -> Iterator[Screener]:
        """The screeners, by block."""
        if self._kept:
            yield from self._kept
        else:
            yield from (self._screener(layer, moment) for layer, moment in self._find())

    def screen(self, requests: Sequence[Request]) -> list[Measured]:
        """Measures requests at every block, from one pass.

        Args:
            requests: The edits.

        Returns:
            For each block what :meth:`diag.screen.shard.Screener.screen` gives.
        """
        placed = self.shared.place(requests)
        keys = self.shared.capture_layers(able(placed))
        return [screener.judge(placed, of)[0] for screener, of in zip(self, keys, strict=True)]

    def _screener(self, layer: int, moment: SecondMoment) -> Screener:
        shared = self.shared.at(layer)
        return Screener(shared, moment, self.hyperparameters, self.seed, self.methods)
