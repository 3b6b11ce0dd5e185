"""The verdict on many edits at once, from keys and denominators alone.

The arithmetic of :mod:`diag.mathematics.update` and :mod:`diag.mathematics.damage`, for all
requests of a shard in a few matrix products: C is factored once, and every mean key is whitened
with that factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diag.batch.settings import no_metric
from diag.judgement.verdict import Grounds, Interval, margin, steps, verdict, verdict_of
from diag.mathematics.intervals import FEWEST_PREFIXED, ratio_intervals
from diag.mathematics.metrics import Geometry
from diag.mathematics.redraws import Redraws
from diag.mathematics.stream import Stream
from diag.screen import by_method
from probes.keys.batch import stream_at
from probes.keys.many_edits import ContextKeys, Placed, SharedPrefixes
from probes.keys.shard_size import JUDGED_AT_ONCE
from probes.model.contribution import contribution
from probes.request.commonness import commonness
from probes.request.request import Request
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.method_file import MethodFile
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY, Key
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import Method

# For each request its columns, or why it could not be measured.
Measured = list[dict[str, Any] | UserError]

# The contract's columns that are measured; the others come from the row itself.
MEASURED = (
    "token", "token_index", "is_first_token", "d_rome", "d_c_rome", "d_p_rome", "rho",
    "length_ratio", "whitened_cosine", "bound_rome", "bound_c_rome", "relative_bound_rome",
    "relative_bound_first_tokens_rome", "expected_share_rome", "verdict",
)  # fmt: skip

BOUNDS = (
    "bound_rome", "bound_c_rome", "relative_bound_rome", "relative_bound_first_tokens_rome",
)  # fmt: skip


def able(placed: Sequence[Placed | UserError]) -> list[Placed]:
    """The requests that can be looked up in every context."""
    return [at for at in placed if not isinstance(at, UserError)]


@dataclass(frozen=True)
class Screener:
    """Measures and judges requests.

    Attributes:
        shared: Model, layer and contexts.
        moment: The second moment of the layer's keys.
        hyperparameters: How v* is optimised, and so how long its δ gets.
        seed: Seed of the bootstrap over contexts.
        methods: Methods whose columns are added to the published editor's.
    """

    shared: SharedPrefixes
    moment: SecondMoment
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    seed: int = 0
    methods: tuple[MethodFile, ...] = ()

    @cached_property
    def stream(self) -> Stream:
        """The residual stream after the layer."""
        shared = self.shared
        return Stream(self.moment, contribution(shared.model, shared.layer))

    @cached_property
    def _redraws(self) -> Redraws:
        return Redraws(self.moment, len(self.shared.prefixes) + 1, self.seed)

    def screen(self, requests: Sequence[Request]) -> Measured:
        """Measures requests.

        Args:
            requests: The edits.

        Returns:
            For each the columns :data:`MEASURED`, or why it could not be measured.
        """
        return self.screen_with_keys(requests)[0]

    def screen_with_keys(
        self, requests: Sequence[Request]
    ) -> tuple[Measured, Float[Tensor, "request 2 d_mlp"]]:
        """Measures requests, and hands out what it measured.

        Args:
            requests: The edits.

        Returns:
            As :meth:`screen`, and each request's bare and mean key, zero where it has none.
        """
        placed = self.shared.place(requests)
        return self.judge(placed, self.shared.capture(able(placed)))

    def judge(
        self, placed: Sequence[Placed | UserError], keys: ContextKeys
    ) -> tuple[Measured, Float[Tensor, "request 2 d_mlp"]]:
        """Judges requests whose keys are known.

        Args:
            placed: Where they are looked up, or why they cannot be.
            keys: The keys of those that can.

        Returns:
            As :meth:`screen_with_keys`.
        """
        results: Measured = [at if isinstance(at, UserError) else {} for at in placed]
        both = torch.zeros(len(placed), 2, self.moment.d_mlp, dtype=torch.float64)
        at = [i for i, each in enumerate(placed) if not isinstance(each, UserError)]
        if at:
            measured, both[at] = self._measure(able(placed), keys)
            for i, result in zip(at, measured, strict=True):
                results[i] = result
        return results, both

    def _measure(
        self, placed: Sequence[Placed], keys: ContextKeys
    ) -> tuple[Measured, Float[Tensor, "request 2 d_mlp"]]:
        results: Measured = []
        both: list[Tensor] = []
        for start in range(0, len(placed), JUDGED_AT_ONCE):
            some = slice(start, start + JUDGED_AT_ONCE)
            in_contexts = keys.of(some)
            both.append(torch.stack([in_contexts[:, 0], in_contexts.mean(1)], dim=1))
            results += self._judge(placed[some], in_contexts, both[-1])
        return results, torch.cat(both)

    def _judge(
        self,
        placed: Sequence[Placed],
        keys: Float[Tensor, "request context d_mlp"],
        bare_and_mean: Float[Tensor, "request 2 d_mlp"],
    ) -> Measured:
        white = self.moment.whiten(bare_and_mean)
        directions = self.moment.unwhiten(white)
        columns = self._numbers(bare_and_mean, white) | self._changes(
            bare_and_mean, directions, white
        )
        numbers = {name: values.tolist() for name, values in columns.items()}
        results = [
            self._row(at, {name: values[i] for name, values in numbers.items()})
            for i, at in enumerate(placed)
        ]
        self._soften(results, keys, directions)
        for chosen, geometry in zip(self.methods, self._geometries, strict=True):
            start, apart = self._lengths(chosen.row, placed, bare_and_mean)
            optimiser = steps(chosen.target, int(self.shared.model.config.d_model))
            try:
                figures = by_method.numbers(geometry, self.stream, keys, start, apart, optimiser)
            except ZeroDivisionError as error:
                raise no_metric(chosen.row, error) from error
            self._add(chosen.row, figures, results, can_redraw=keys.shape[1] > FEWEST_PREFIXED)
        for result in results:
            if isinstance(result, dict):
                del result["margin"]  # which is no column: verdicts alone rest on it
        return results

    @cached_property
    def _geometries(self) -> tuple[Geometry, ...]:
        return tuple(Geometry(of.row, self.moment, of.parameters) for of in self.methods)

    def _lengths(
        self,
        method: Method,
        placed: Sequence[Placed],
        bare_and_mean: Float[Tensor, "request 2 d_mlp"],
    ) -> tuple[Float[Tensor, " request"], Float[Tensor, " request"]]:
        """Length of what a method's δ is added to, and how far what is subtracted lies from it."""
        model, layer = self.shared.model, self.shared.layer
        if method.in_stream:
            start = stream_at(model, [at.bare for at in placed], layer).norm(dim=1)
            return start, torch.zeros_like(start)
        bare, mean = model.mlp_output(bare_and_mean, layer).unbind(1)
        subtracted = mean if method.subtract == "mean" else bare
        return bare.norm(dim=1), (bare - subtracted).norm(dim=1)

    def _add(
        self,
        method: Method,
        figures: Mapping[str, Float[Tensor, " request"]],
        results: Measured,
        *,
        can_redraw: bool,
    ) -> None:
        """Adds a method's columns to edits that have a row."""
        rows = zip(*(values.tolist() for values in figures.values()), strict=True)
        for result, row in zip(results, rows, strict=True):
            if isinstance(result, dict):
                result |= by_method.columns(
                    method, dict(zip(figures, row, strict=True)), result["rho"],
                    result["margin"], can_redraw=can_redraw,
                )  # fmt: skip

    def _row(self, at: Placed, numbers: dict[str, float]) -> dict[str, Any] | UserError:
        """One edit's row, or why it has none."""
        model, layer = self.shared.model, self.shared.layer
        if not math.isfinite(numbers["d_c_rome"]) or not math.isfinite(numbers["d_p_rome"]):
            return UserError(f"its keys are not finite in {model.computed_in}: use float32")
        if numbers["d_c_rome"] == 0.0 or numbers["d_p_rome"] == 0.0:
            return UserError(f"its key in layer {layer} is zero: there is no direction")
        row: dict[str, Any] = {
            "token": at.bare.token,
            "token_index": at.bare.index,
            "is_first_token": at.bare.is_first_token,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        }
        row["margin"] = margin(self.moment, commonness(model, at.request, at.bare))
        return row | {"verdict": verdict_of(self._grounds(row))}

    def _numbers(
        self,
        bare_and_mean: Float[Tensor, "request 2 d_mlp"],
        white: Float[Tensor, "request 2 d_mlp"],
    ) -> dict[str, Tensor]:
        """Denominators and their split, ``[request]`` each."""
        bare, mean = white.unbind(1)
        of: dict[Key, Tensor] = {"bare": bare, "mean": mean}
        denominators = {
            name: (of[editor.along] * of[editor.divide_by]).sum(1)
            for name, editor in EDITORS.items()
        }
        bare_square, mean_square = (bare * bare).sum(1), (mean * mean).sum(1)
        return {
            **{f"d_{name}": denominator for name, denominator in denominators.items()},
            "rho": denominators[PUBLISHED] / denominators[REMEDY],
            "length_ratio": (bare_square / mean_square).sqrt(),
            "whitened_cosine": (bare * mean).sum(1) / (bare_square * mean_square).sqrt(),
        }

    def _changes(
        self,
        bare_and_mean: Float[Tensor, "request 2 d_mlp"],
        directions: Float[Tensor, "request 2 d_mlp"],
        white: Float[Tensor, "request 2 d_mlp"],
    ) -> dict[str, Tensor]:
        """Bounds of what ROME and C-ROME change, ``[request]`` each; NaN where not checked."""
        bare, mean = white.unbind(1)
        rome, c_rome, u = (bare * mean).sum(1), (mean * mean).sum(1), directions[:, 1]
        unknown = torch.full_like(rome, math.nan)
        outputs = self.shared.model.mlp_output(bare_and_mean, self.shared.layer)
        optimiser = steps(self.hyperparameters, outputs.shape[-1])
        residual = optimiser.clamp * outputs[:, 0].norm(dim=1)
        share = {"expected_share_rome": (optimiser.reach / residual).clamp(max=1.0)}
        if self.moment.moment is None:
            return dict.fromkeys(BOUNDS, unknown) | share
        # uᵀCu, with u solved by C + ridge and C the corpus moment itself.
        spread = c_rome
        if self.moment.ridge:
            spread = ((u @ self.moment.moment) * u).sum(1).clamp(min=0)
        apart = (outputs[:, 0] - outputs[:, 1]).norm(dim=1)
        bounds = {
            "bound_rome": residual * spread.sqrt() / rome.abs(),
            "bound_c_rome": (residual + apart) * spread.sqrt() / c_rome,
        }
        changes = self.stream.changes(u, rome, residual, bounds["bound_rome"])
        return (
            bounds
            | share
            | {
                "relative_bound_rome": unknown if changes is None else changes[0],
                "relative_bound_first_tokens_rome": unknown if changes is None else changes[1],
            }
        )

    def _soften(
        self,
        results: Measured,
        keys: Float[Tensor, "request context d_mlp"],
        directions: Float[Tensor, "request 2 d_mlp"],
    ) -> None:
        """Makes ``safe`` ``unclear`` where another draw of the contexts would not say so."""
        safe = [i for i, r in enumerate(results) if isinstance(r, dict) and r["verdict"] == "safe"]
        if not safe:
            return
        intervals: dict[int, Interval | None] = dict.fromkeys(safe)
        if keys.shape[1] > FEWEST_PREFIXED:
            # Usually most are safe: computing the others too is cheaper than leaving them out.
            least = torch.full((len(results),), math.inf, dtype=torch.float64)
            least[safe] = torch.tensor([self._least_safe(results[i]) for i in safe]).to(least)
            certain = self._redraws.stay_above(keys, directions, least)
            doubtful = [i for i in safe if not certain[i]]
            for i in safe:
                if certain[i]:
                    del intervals[i]
            if doubtful:
                doubted = self.moment.whiten(keys[doubtful])
                ends = ratio_intervals(doubted @ doubted.mT, seed=self.seed).tolist()
                intervals |= {i: (low, high) for i, (low, high) in zip(doubtful, ends, strict=True)}
        for i, interval in intervals.items():
            row = results[i]
            assert isinstance(row, dict)
            row["verdict"] = verdict(self._grounds(row), interval)

    def _grounds(self, row: dict[str, Any]) -> Grounds:
        share = row["expected_share_rome"]
        return Grounds(
            row["rho"], row["relative_bound_rome"], row["relative_bound_first_tokens_rome"],
            row["margin"], 1.0 if share is None else share,
        )  # fmt: skip

    def _least_safe(self, row: dict[str, Any] | UserError) -> float:
        """The ρ above which a safe verdict stays what it is; the damage goes with 1/ρ."""
        assert isinstance(row, dict)
        grounds = self._grounds(row)
        assert grounds.together is not None
        return grounds.together * grounds.margin * abs(grounds.rho)
