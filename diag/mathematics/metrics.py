"""What one layer makes of a method: its metric G, the denominator matrix M, and bounds of damage.

:mod:`diag.mathematics.family` has the equation; a row of :data:`rome_diagnosis.methods.METHODS`
chooses what goes into it. A new metric is a function and a row of :data:`METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from diag.mathematics import family
from diag.mathematics.family import Update
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.methods import Method, MethodKey

# A metric, and the regulariser that M takes beside it.
Weighed = tuple[family.Metric, float]


@dataclass(frozen=True)
class Geometry:
    """One layer under one method.

    Attributes:
        method: The method.
        moment: The second moment C of the layer's keys.
        parameters: The method's parameters; its published ones where a name is missing.
    """

    method: Method
    moment: SecondMoment
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """A parameter by its name; 0 for one the method does not have."""
        return float(self.parameters.get(name, self.method.parameters.get(name, 0.0)))

    @property
    def in_effect(self) -> dict[str, float]:
        """Every parameter that the method has, by name."""
        return {name: self[name] for name in self.method.parameters}

    @cached_property
    def basis(self) -> Float[Tensor, "d_mlp rank"]:
        """Directions that are left to write in, where the metric projects."""
        return family.projector(self.moment.solved, self["threshold"])

    @property
    def rank(self) -> int | None:
        """How many directions are left; ``None`` where the metric does not project."""
        return self.basis.shape[1] if self.method.metric == "projected" else None

    def weighed(self, edits: int, history: Float[Tensor, "n d_mlp"] | None = None) -> Weighed:
        """The metric and M's regulariser for a batch.

        Args:
            edits: How many edits it has.
            history: Keys of earlier batches, for methods that remember.

        Returns:
            Both.
        """
        past = None if history is None or not self.method.remembers else history.T @ history
        return METRICS[self.method.metric](self, edits, past)

    def update(
        self,
        keys: Float[Tensor, "m n_ctx d_mlp"],
        residuals: Float[Tensor, "m d_model"],
        history: Float[Tensor, "n d_mlp"] | None = None,
        *,
        weighed: Weighed | None = None,
    ) -> Update:
        """The update of one batch.

        Args:
            keys: Each edit's keys under contexts 0…n; context 0 is the bare prompt's.
            residuals: What each edit should change at its key.
            history: Keys of earlier batches.
            weighed: The metric and M's regulariser, where they are known already.

        Returns:
            The update, as factors.

        Raises:
            ZeroDivisionError: If M is singular.
        """
        metric, regulariser = weighed or self.weighed(len(keys), history)
        along, below = combined(keys, self.method.along), combined(keys, self.method.divide_by)
        if self.method.together:
            return family.update(along, residuals, metric, regulariser=regulariser, divide_by=below)
        directions = metric(along)
        denominators = (directions * below).sum(1)
        if bool((denominators == 0).any()):
            raise ZeroDivisionError(f"a denominator of {self.method.short} is exactly zero")
        return Update(directions, denominators.diag(), residuals)

    def damage_factor(self, edits: int) -> float | None:
        """What ‖R‖_F is multiplied by to bound the damage, whatever the keys; ``None`` without one.

        λ in M gives 1/(2√λ); so does λC in the metric, which is at least λC. AlphaEdit's projector
        gives √τ/(2√L₂).
        """
        if self.method.metric == "projected":
            return self["threshold"] ** 0.5 / (2 * self["l2"] ** 0.5) if self["l2"] > 0 else None
        weight = self["weight"]
        if "damping" in self.method.parameters:
            weight *= self["damping"] if edits > 1 else 0.0
        return 1 / (2 * weight**0.5) if weight > 0 else None


def combined(keys: Float[Tensor, "m n_ctx d_mlp"], which: MethodKey) -> Float[Tensor, "m d_mlp"]:
    """The key that a method takes of each edit.

    Args:
        keys: Keys under contexts 0…n; context 0 is the bare prompt's.
        which: ``bare``, ``mean`` over all contexts, or ``half``: the mean of the bare key and the
            mean of the prefixed ones.

    Returns:
        One key for each edit.
    """
    if which == "bare" or keys.shape[1] == 1:
        return keys[:, 0]
    return keys.mean(1) if which == "mean" else (keys[:, 0] + keys[:, 1:].mean(1)) / 2


def left(spread: str, layers: int, i: int) -> float:
    """The share of what is left of the residual that layer number i of several is to write.

    Args:
        spread: ``even`` or ``root``.
        layers: How many layers there are.
        i: Number of the layer, from 0 at the lowest.

    Returns:
        1 at the last layer.
    """
    return 1.0 / (layers - i) if spread == "even" else 1.0 / (layers - i) ** 0.5


def _inverse(layer: Geometry, edits: int, past: Tensor | None) -> Weighed:
    """G = (λ₀C + λₙI)⁻¹ with μ in M for equality constraints, else C⁻¹ with λ in M."""
    if "damping" not in layer.method.parameters:
        return layer.moment.solve, layer["weight"]
    return _of_sum(layer, None), layer["damping"] if edits > 1 else 0.0


def _remembering(layer: Geometry, edits: int, past: Tensor | None) -> Weighed:
    """G = (λC + λₙI + S)⁻¹."""
    return _of_sum(layer, past), 1.0


def _of_sum(layer: Geometry, past: Tensor | None) -> family.Metric:
    """(λC + λₙI + S)⁻¹; where λC is all there is, C's own factor serves."""
    weight, ridge = layer["weight"], layer["ridge"]
    if past is None and ridge == 0.0 and weight > 0:
        return lambda keys: layer.moment.solve(keys) / weight
    ground = weight * layer.moment.solved
    ground.diagonal().add_(ridge)
    return family.inverse(ground if past is None else ground.add_(past), in_place=True)


def _projected(layer: Geometry, edits: int, past: Tensor | None) -> Weighed:
    """G = P(PSP + L₂I)⁻¹."""
    return family.projected(layer.basis, ridge=layer["l2"], history=past), 1.0


METRICS: Mapping[str, Callable[[Geometry, int, Tensor | None], Weighed]] = {
    "inverse": _inverse,
    "remembering": _remembering,
    "projected": _projected,
}
