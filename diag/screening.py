"""The verdict on many edits at once, from keys and denominators alone.

The arithmetic of :mod:`diag.update` and :mod:`diag.damage`, for all requests of a shard in a few
matrix products: C is factored once, and every mean key is whitened with that factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diag import findings, update
from diag.damage import CLAMP_NORM_FACTOR
from diag.limits import DAMAGE_SAFE
from diag.redrawn import Redraws
from diag.verdict import verdict, verdict_of
from probes.errors import UserError
from probes.second_moment import SecondMoment
from probes.shared_prefix import ContextKeys, Placed, SharedPrefixes
from probes.subject import Request

# What the keys of a shard may take: contexts × requests × d_mlp numbers are held at once.
SHARD_BYTES = 1 << 28
LARGEST_SHARD = 1024
INTERVALS_AT_ONCE = 256

# The contract's columns that are measured; the others come from the row itself.
MEASURED = (
    "token", "token_index", "is_first_token", "d_rome", "d_c_rome", "d_p_rome", "rho",
    "length_ratio", "whitened_cosine", "bound_rome", "bound_c_rome", "relative_bound_rome",
    "verdict",
)  # fmt: skip


def shard_size(n_prefixes: int, d_mlp: int) -> int:
    """How many requests are measured at once.

    Args:
        n_prefixes: Contexts beside the bare prompt.
        d_mlp: Length of a key.

    Returns:
        Requests; it follows from sizes alone, so that a run that goes on makes the same shards.
    """
    fitting = SHARD_BYTES // ((n_prefixes + 1) * d_mlp * 4)
    return max(16, min(LARGEST_SHARD, fitting))


@dataclass(frozen=True)
class Sums:
    """What the contexts of a list of requests come to, float64.

    Attributes:
        bare_keys: k_u, ``[request, d_mlp]``.
        mean_keys: k̄, ``[request, d_mlp]``.
        bare_values: v_u, ``[request, d_model]``.
        mean_values: v̄, ``[request, d_model]``.
    """

    bare_keys: Float[Tensor, "request d_mlp"]
    mean_keys: Float[Tensor, "request d_mlp"]
    bare_values: Float[Tensor, "request d_model"]
    mean_values: Float[Tensor, "request d_model"]

    @classmethod
    def of(cls, contexts: Sequence[ContextKeys]) -> Sums:
        """Adds contexts 0…n up."""

        def spread(context: ContextKeys, what: str) -> Tensor:
            found: Tensor = getattr(context, what)
            return found.to(torch.float64)[context.index]

        made: dict[str, Tensor] = {}
        for what in ("keys", "values"):
            total = spread(contexts[0], what)
            made[f"bare_{what}"] = total.clone()
            for context in contexts[1:]:
                total += spread(context, what)
            made[f"mean_{what}"] = total / len(contexts)
        return cls(**made)


@dataclass(frozen=True)
class Screener:
    """Measures and judges requests.

    Attributes:
        shared: Model, layer and contexts.
        moment: The second moment of the layer's keys.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖.
        seed: Of the bootstrap over contexts.
    """

    shared: SharedPrefixes
    moment: SecondMoment
    clamp: float = CLAMP_NORM_FACTOR
    seed: int = 0

    @cached_property
    def _redraws(self) -> Redraws:
        return Redraws(self.moment, self.seed)

    def screen(self, requests: Sequence[Request]) -> list[dict[str, Any] | UserError]:
        """Measures requests.

        Args:
            requests: The edits.

        Returns:
            For each the columns :data:`MEASURED`, or why it could not be measured.
        """
        placed = self.shared.place(requests)
        found: list[dict[str, Any] | UserError] = [
            at if isinstance(at, UserError) else {} for at in placed
        ]
        able = [i for i, at in enumerate(placed) if not isinstance(at, UserError)]
        if able:
            lookups = [at for at in placed if not isinstance(at, UserError)]
            for i, result in zip(able, self._measure(lookups), strict=True):
                found[i] = result
        return found

    def _measure(self, placed: Sequence[Placed]) -> list[dict[str, Any] | UserError]:
        contexts = list(self.shared.capture(placed))
        sums = Sums.of(contexts)
        numbers = self._numbers(sums)
        columns = {name: values.tolist() for name, values in numbers.items()}
        model, layer = self.shared.model, self.shared.layer
        results: list[dict[str, Any] | UserError] = []
        for i, at in enumerate(placed):
            row = {name: values[i] for name, values in columns.items()}
            if not math.isfinite(row["d_c_rome"]) or not math.isfinite(row["d_p_rome"]):
                results.append(UserError(f"its keys are not finite in {model.dtype}: use float32"))
            elif row["d_c_rome"] == 0.0 or row["d_p_rome"] == 0.0:
                results.append(
                    UserError(f"its key in layer {layer} is zero: there is no direction")
                )
            else:
                row = {name: value if math.isfinite(value) else None for name, value in row.items()}
                results.append(
                    {
                        "token": at.bare.token,
                        "token_index": at.bare.index,
                        "is_first_token": at.bare.is_first_token,
                        **row,
                        "verdict": verdict_of(row["rho"], row["relative_bound_rome"]),
                    }
                )
        self._soften(results, contexts)
        return results

    def _numbers(self, sums: Sums) -> dict[str, Tensor]:
        """Denominators, their split and the bounds, ``[request]`` each."""
        bare = self.moment.whiten(sums.bare_keys)
        mean = self.moment.whiten(sums.mean_keys)
        rome, c_rome, p_rome = (bare * mean).sum(1), (mean * mean).sum(1), (bare * bare).sum(1)
        made = {
            "d_rome": rome,
            "d_c_rome": c_rome,
            "d_p_rome": p_rome,
            "rho": rome / c_rome,
            "length_ratio": (p_rome / c_rome).sqrt(),
            "whitened_cosine": rome / (p_rome * c_rome).sqrt(),
        }
        unknown = torch.full_like(rome, math.nan)
        if self.moment.moment is None:
            return made | dict.fromkeys(
                ("bound_rome", "bound_c_rome", "relative_bound_rome"), unknown
            )
        # uᵀCu, with u solved by C + ridge and C the corpus moment itself.
        spread = c_rome
        if self.moment.ridge:
            u = self.moment.solve(sums.mean_keys)
            spread = ((u @ self.moment.moment) * u).sum(1).clamp(min=0)
        residual = self.clamp * sums.bare_values.norm(dim=1)
        apart = (sums.bare_values - sums.mean_values).norm(dim=1)
        made["bound_rome"] = residual * spread.sqrt() / rome.abs()
        made["bound_c_rome"] = (residual + apart) * spread.sqrt() / c_rome
        background = self.moment.background
        known = background is not None and not self.shared.model.norm_behind_mlp
        made["relative_bound_rome"] = (
            made["bound_rome"] / background.residual_norm if known and background else unknown
        )
        return made

    def _soften(
        self, results: list[dict[str, Any] | UserError], contexts: Sequence[ContextKeys]
    ) -> None:
        """Makes ``safe`` ``unclear`` where another draw of the contexts would not say so."""
        if len(contexts) < 3:
            return
        safe = [i for i, r in enumerate(results) if isinstance(r, dict) and r["verdict"] == "safe"]
        for start in range(0, len(safe), INTERVALS_AT_ONCE):
            rows = safe[start : start + INTERVALS_AT_ONCE]
            at = torch.tensor(rows)
            keys = torch.stack([c.keys[c.index[at]] for c in contexts], 1).to(torch.float64)
            least = torch.tensor([_least_safe(results[i]) for i in rows], dtype=torch.float64)
            certain = self._redraws.stay_above(keys, least)
            doubtful = [place for place, known in enumerate(certain) if not known]
            if not doubtful:
                continue
            white = self.moment.whiten(keys[doubtful])
            intervals = update.ratio_intervals(white @ white.mT, seed=self.seed)
            for place, (low, high) in zip(doubtful, intervals.tolist(), strict=True):
                row = results[rows[place]]
                assert isinstance(row, dict)
                rho, relative = row["rho"], row["relative_bound_rome"]
                status = findings.contexts(rho, (low, high), relative).status
                row["verdict"] = verdict(rho, relative, fragile=status in ("warn", "fail"))


def _least_safe(row: dict[str, Any] | UserError) -> float:
    """The ρ above which a safe verdict stays what it is; the damage goes with 1/ρ."""
    assert isinstance(row, dict)
    bound: float = row["relative_bound_rome"] * abs(row["rho"])
    return bound / DAMAGE_SAFE.value
