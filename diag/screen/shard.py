"""The verdict on many edits at once, from keys and denominators alone.

The arithmetic of :mod:`diag.mathematics.update` and :mod:`diag.mathematics.damage`, for all
requests of a shard in a few matrix products: C is factored once, and every mean key is whitened
with that factor.
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

from diag.judgement import findings
from diag.judgement.limits import CLAMP_NORM_FACTOR, DAMAGE_SAFE
from diag.judgement.verdict import verdict, verdict_of
from diag.mathematics.intervals import ratio_intervals
from diag.mathematics.redraws import Redraws
from probes.keys.many_edits import Placed, SharedPrefixes
from probes.request.request import Request
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError

# What the keys of a shard may take: contexts × requests × d_mlp numbers are held at once.
SHARD_BYTES = 1 << 28
LARGEST_SHARD = 1024
JUDGED_AT_ONCE = 64  # whose keys are float64 at the same time: few stay in the caches

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
    clamp: float = CLAMP_NORM_FACTOR.value
    seed: int = 0

    @cached_property
    def _redraws(self) -> Redraws:
        return Redraws(self.moment, len(self.shared.prefixes) + 1, self.seed)

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
        keys = self.shared.capture(placed)
        results: list[dict[str, Any] | UserError] = []
        for start in range(0, len(placed), JUDGED_AT_ONCE):
            some = slice(start, start + JUDGED_AT_ONCE)
            results += self._judge(placed[some], keys.of(some))
        return results

    def _judge(
        self, placed: Sequence[Placed], keys: Float[Tensor, "request context d_mlp"]
    ) -> list[dict[str, Any] | UserError]:
        bare_and_mean = torch.stack([keys[:, 0], keys.mean(1)], dim=1)
        white = self.moment.whiten(bare_and_mean)
        numbers = self._numbers(bare_and_mean, white)
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
        self._soften(results, keys, white)
        return results

    def _numbers(
        self,
        bare_and_mean: Float[Tensor, "request 2 d_mlp"],
        white: Float[Tensor, "request 2 d_mlp"],
    ) -> dict[str, Tensor]:
        """Denominators, their split and the bounds of k_u and k̄, ``[request]`` each."""
        bare, mean = white.unbind(1)
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
            u = self.moment.unwhiten(mean)
            spread = ((u @ self.moment.moment) * u).sum(1).clamp(min=0)
        outputs = self.shared.model.mlp_output(bare_and_mean, self.shared.layer)
        residual = self.clamp * outputs[:, 0].norm(dim=1)
        apart = (outputs[:, 0] - outputs[:, 1]).norm(dim=1)
        made["bound_rome"] = residual * spread.sqrt() / rome.abs()
        made["bound_c_rome"] = (residual + apart) * spread.sqrt() / c_rome
        background = self.moment.background
        known = background is not None and not self.shared.model.norm_behind_mlp
        made["relative_bound_rome"] = (
            made["bound_rome"] / background.residual_norm if known and background else unknown
        )
        return made

    def _soften(
        self,
        results: list[dict[str, Any] | UserError],
        keys: Float[Tensor, "request context d_mlp"],
        white: Float[Tensor, "request 2 d_mlp"],
    ) -> None:
        """Makes ``safe`` ``unclear`` where another draw of the contexts would not say so."""
        safe = [i for i, r in enumerate(results) if isinstance(r, dict) and r["verdict"] == "safe"]
        if not safe or keys.shape[1] < 3:
            return
        # Usually most are safe: computing the others too is cheaper than leaving them out.
        least = torch.full((len(results),), math.inf, dtype=torch.float64)
        least[safe] = torch.tensor([_least_safe(results[i]) for i in safe], dtype=torch.float64)
        certain = self._redraws.stay_above(keys, self.moment.unwhiten(white), least)
        doubtful = [i for i in safe if not certain[i]]
        if not doubtful:
            return
        whole = self.moment.whiten(keys[doubtful])
        intervals = ratio_intervals(whole @ whole.mT, seed=self.seed)
        for i, (low, high) in zip(doubtful, intervals.tolist(), strict=True):
            row = results[i]
            assert isinstance(row, dict)
            rho, relative = row["rho"], row["relative_bound_rome"]
            status = findings.contexts(rho, (low, high), relative).status
            row["verdict"] = verdict(rho, relative, fragile=status in ("warn", "fail"))


def _least_safe(row: dict[str, Any] | UserError) -> float:
    """The ρ above which a safe verdict stays what it is; the damage goes with 1/ρ."""
    assert isinstance(row, dict)
    bound: float = row["relative_bound_rome"] * abs(row["rho"])
    return bound / DAMAGE_SAFE.value
