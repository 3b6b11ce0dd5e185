"""The methods: one equation, ΔWᵀ = R M⁻¹ KᵀG, and what each puts into it.

Every locate-then-edit method is a row of :data:`METHODS`: which key it writes along and divides by,
the metric G, what stands beside KᵀGK in the denominator matrix M, where its residual is measured
and how it is spread over layers. The mathematics, the commands, documents, pages and figures
iterate over that table; none of them knows a method by name.

The editors of one fact (:data:`rome_diagnosis.editors.EDITORS`) are the first rows. Each of their
edits is solved by itself, so their M is diagonal, and what edits do to one another shows in the
response.

Sources: Meng et al. 2023 (MEMIT), equations 14 and 20; Gupta et al. 2024 (EMMET; r-ROME); Li et
al. 2024 (PMET); Fang et al. 2025 (AlphaEdit), equations 11 to 14; Gupta et al. 2025 (ENCORE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rome_diagnosis.defaults import CLAMP_FACTOR, N_PREFIXES
from rome_diagnosis.editors import EDITORS, Key

# An editor's key, or half the bare prompt's and half the mean of the prefixed ones.
MethodKey = Literal["mean", "bare", "half"]
Metric = Literal["inverse", "remembering", "projected"]
Spread = Literal["even", "root"]
# Where a δ may be added, as :data:`probes.model.architecture.Site` names it: to the attention's
# output, to the MLP's, or to the residual stream after the block.
TargetSite = Literal["attention", "value", "resid_post"]

# What a method is tuned with, as sentences call it.
PARAMETERS: Mapping[str, str] = {
    "weight": "λ",
    "damping": "μ",
    "ridge": "λₙ",
    "threshold": "τ",
    "l2": "L₂",
}


# What may be done to a computed update before it is written, as documents call it. The mathematics
# are :data:`diag.mathematics.post.POST`.
POST: Mapping[str, str] = {
    "rect": "RECT: only the 40 % of entries with the largest relative change",
    "prune": "PRUNE: singular values above the weights' largest are condensed",
}


@dataclass(frozen=True)
class Method:
    """One method: what it puts into the equation, and how it is shown.

    Attributes:
        name: Its name in documents.
        along: The keys K of the directions.
        divide_by: The keys on the right of M = KᵀG·; the same as ``along`` unless inconsistent.
        subtract: The value subtracted from the target value v*; ``None`` where the residual is
            measured anew at every layer: z less what the last layer's last site holds by then.
        sites: Where the optimisation adds a δ each, in the last layer; the last is the target's.
        metric: A row of :data:`diag.mathematics.metrics.METRICS`.
        together: Whether one M couples the edits of a batch; each is solved by itself otherwise.
        spread: Over the layers that are left: ``even`` divides by their number, ``root`` by its
            square root.
        remembers: Whether keys of earlier batches enter the metric.
        parameters: Its parameters with the values published code ships, by names of
            :data:`PARAMETERS`.
        clamp: The factor of ‖h‖ or ‖v_u‖ that ‖δ‖ is clamped to, as published.
        contexts: Prefixed contexts that are sampled, as published.
        label: Its name in full.
        short: Its name in figures and columns.
        metric_formula: G as a formula.
        matrix_formula: M as a formula.
        note: What is particular to it, in a phrase.
        colour: ``#rrggbb``, legible on white.
        marker: A matplotlib marker.
        optimised: What the optimisation of its target does otherwise than ROME's, as published,
            by names of :class:`probes.target_value.hyperparameters.Hyperparameters`.
    """

    name: str
    along: MethodKey
    divide_by: MethodKey
    subtract: Key | None
    sites: tuple[TargetSite, ...]
    metric: Metric
    together: bool
    spread: Spread
    remembers: bool
    parameters: Mapping[str, float]
    clamp: float
    contexts: int
    label: str
    short: str
    metric_formula: str
    matrix_formula: str
    note: str
    colour: str
    marker: str
    optimised: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_stream(self) -> bool:
        """Whether its target z lies in the residual stream rather than in the MLP's output."""
        return self.sites[-1] == "resid_post"

    @property
    def over_layers(self) -> bool:
        """Whether it may spread an edit over several layers."""
        return self.subtract is None


def _of_editors() -> list[Method]:
    """Each editor of one fact as a method whose edits do not know of one another."""
    return [
        Method(
            editor.name, editor.along, editor.divide_by, editor.subtract, ("value",),
            metric="inverse", together=False, spread="even", remembers=False, parameters={},
            clamp=CLAMP_FACTOR, contexts=N_PREFIXES, label=editor.label, short=editor.short,
            metric_formula="C⁻¹", matrix_formula=editor.formula, note=editor.note,
            colour=editor.colour, marker=editor.marker,
        )
        for editor in EDITORS.values()
    ]  # fmt: skip


def _batched(
    name: str,
    *,
    parameters: Mapping[str, float],
    metric: Metric = "inverse",
    spread: Spread = "even",
    remembers: bool = False,
    sites: tuple[TargetSite, ...] = ("resid_post",),
    optimised: Mapping[str, Any] | None = None,
    **shown: str,
) -> Method:
    """A method that follows MEMIT in everything its row does not say."""
    return Method(
        name, "half", "half", None, sites, metric=metric, together=True, spread=spread,
        remembers=remembers, parameters=parameters, clamp=0.75, contexts=5,
        optimised=optimised or {}, **shown,
    )  # fmt: skip


# The method of a batch where nobody names one.
BATCHED = "memit"

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        *_of_editors(),
        Method(
            "r_rome", "mean", "mean", "mean", ("value",), metric="inverse", together=False,
            spread="even", remembers=False, parameters={}, clamp=CLAMP_FACTOR, contexts=N_PREFIXES,
            label="r-ROME, mean key throughout", short="r-ROME", metric_formula="C⁻¹",
            matrix_formula="k̄ᵀC⁻¹k̄", note="the same update as C-ROME as published",
            colour="#4f6d8f", marker="v",
        ),
        _batched(
            "emmet", parameters={"weight": 1000.0, "damping": 0.1, "ridge": 0.0},
            label="EMMET, equality constraints", short="EMMET", metric_formula="(λC + λₙI)⁻¹",
            matrix_formula="μI + KᵀGK", note="μ only where a batch has two edits or more; MEMIT "
            "with λ → μλ", colour="#8a5a00", marker="<",
        ),
        _batched(
            "memit", parameters={"weight": 15_000.0}, label="MEMIT, least squares", short="MEMIT",
            metric_formula="C⁻¹", matrix_formula="λI + KᵀC⁻¹K",
            note="no key gets all of its change", colour="#7a3e9d", marker="P",
        ),
        _batched(
            "memit_seq", parameters={"weight": 15_000.0}, metric="remembering", remembers=True,
            label="MEMIT with history", short="MEMIT+S", metric_formula="(λC + S)⁻¹",
            matrix_formula="I + KᵀGK", note="batch after batch it is one batch of all",
            colour="#a0529f", marker="p",
        ),
        _batched(
            "pmet", parameters={"weight": 15_000.0}, spread="root", sites=("attention", "value"),
            optimised={
                "evaluations": 30, "learning_rate": 0.2, "kl_factor": 1.0, "leading_nll": 0.1,
                "leading_kl": 0.01,
            },
            label="PMET, attention and MLP apart", short="PMET", metric_formula="C⁻¹",
            matrix_formula="λI + KᵀC⁻¹K", note="spread by the root of the layers left; only the "
            "MLP's part of what is optimised is written",
            colour="#4f7322", marker="h",
        ),
        _batched(
            "alphaedit", parameters={"threshold": 0.02, "l2": 10.0}, metric="projected",
            remembers=True, label="AlphaEdit, null space", short="AlphaEdit",
            metric_formula="P(PSP + L₂I)⁻¹", matrix_formula="I + KᵀGK",
            note="writes only where ordinary keys have second moments below τ",
            colour="#b03a5b", marker="*",
        ),
        _batched(
            "encore", parameters={"weight": 15_000.0, "ridge": 20.0}, metric="remembering",
            remembers=True, optimised={"most_probable": 2}, label="ENCORE, norm constraint",
            short="ENCORE", metric_formula="(λC + λₙI + S)⁻¹", matrix_formula="I + KᵀGK",
            note="λₙ holds ‖ΔW‖ down; z stops where the new object is the most probable",
            colour="#26757c", marker="d",
        ),
    )
}  # fmt: skip
