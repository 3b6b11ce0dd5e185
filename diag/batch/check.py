"""The pre-flight of a batch: the model is observed once, and every layer's update follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diag.batch.preflight import LayerCheck, Shares, check_layer, received, shares_of
from diag.batch.settings import Workplace, no_metric
from diag.judgement import batch as judged
from diag.judgement import key_findings
from diag.judgement.findings import Finding
from diag.judgement.verdict import Verdict, margin, steps
from diag.mathematics.damage import lengths
from diag.mathematics.intervals import FEWEST_PREFIXED, growth
from diag.mathematics.metrics import Geometry, combined, left
from diag.mathematics.pairs import Pair, pairs
from diag.mathematics.update import Split, denominators
from probes.keys.batch import BatchObservation, observe_batch
from probes.request.commonness import Commonness, commonness
from probes.request.request import Request
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import KEYS_ALIKE
from rome_diagnosis.methods import METHODS, Method


@dataclass(frozen=True)
class InFamily:
    """What one method of the family would do with the same batch, at the first edited layer.

    Attributes:
        method: The method.
        parameters: Its parameters.
        rank: How many directions are left to it; ``None`` where it does not project.
        edits: How many edits.
        shares: φ of each edit; ``None`` where M is singular.
        condition_number: Condition number of M; infinite where M is singular.
        regulariser: On M's diagonal.
    """

    method: Method
    parameters: Mapping[str, float]
    rank: int | None
    edits: int
    shares: Shares | None
    condition_number: float
    regulariser: float


@dataclass(frozen=True)
class Preflight:
    """A batch before anything is optimised.

    Attributes:
        workplace: What it is checked with.
        requests: The edits.
        observation: What the model gave.
        longest: The length of each edit's z − h, or v* − v, at most.
        expected_share: The share of it that is expected.
        layers: Each layer, ascending.
        family: Every method at the first of them.
    """

    workplace: Workplace
    requests: tuple[Request, ...]
    observation: BatchObservation
    longest: Float[Tensor, " m"]
    expected_share: Float[Tensor, " m"]
    layers: tuple[LayerCheck, ...]
    family: tuple[InFamily, ...]

    @cached_property
    def bare(self) -> Float[Tensor, " m"] | None:
        """The share of its change that each bare prompt receives over all layers."""
        return self._received([s.bare if (s := each.shares) else None for each in self.layers])

    @cached_property
    def prefixed(self) -> Float[Tensor, " m"] | None:
        """The same at each edit's prefixed prompts."""
        return self._received([s.prefixed if (s := each.shares) else None for each in self.layers])

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs that disturb one another, by the keys of the first layer."""
        return pairs(self.requests, self.layers[0].cosines, limit=KEYS_ALIKE.value)

    @cached_property
    def disturbed(self) -> tuple[int, int, float] | None:
        """Which edit's bare prompt receives most of another's change: its index, the other's, φ."""
        cross = self.layers[0].cross
        if cross is None or len(cross) < 2:
            return None
        apart = cross.abs().fill_diagonal_(0.0)
        i, j = divmod(int(apart.argmax()), len(cross))
        return i, j, float(cross[i, j])

    def total(self, name: str) -> float | None:
        """A relative damage summed over layers; ``None`` if one of them has none."""
        parts = [getattr(layer.damage, name) for layer in self.layers]
        return None if any(part is None for part in parts) else float(sum(parts))

    @property
    def not_checked(self) -> str | None:
        """Why damage is not known; ``None`` where it is."""
        reasons = (layer.damage.not_checked for layer in self.layers)
        return next(filter(None, reasons), None)

    @cached_property
    def findings(self) -> list[Finding]:
        """Everything that was held against a limit."""
        worst = max(self.layers, key=lambda layer: layer.condition_number)
        singular = worst.condition_number == float("inf")
        names = self.disturbed and tuple(self.requests[i].subject for i in self.disturbed[:2])
        bare, prefixed = (None if s is None else s.tolist() for s in (self.bare, self.prefixed))
        findings = [
            self._weight(),
            directions(self.workplace.geometries[min(self.layers, key=_rank).layer]),
            self._ratio(),
            judged.condition(None if singular else worst.condition_number, worst.layer),
            judged.conflicts(self.pairs, [edit.subject for edit in self.requests]),
            judged.takes(bare, prefixed),
            judged.disturbance(
                self.disturbed and self.disturbed[2],
                names,  # type: ignore[arg-type]
                alone=len(self.requests) == 1,
            ),
            key_findings.common_token(max(self._common, key=lambda one: one.token_share)),
            key_findings.asked_with(max(self._common, key=lambda one: one.asked_with)),
            judged.damage(
                self.total("relative_expected"), self.total("relative_bound"), self.not_checked
            ),
            judged.first_tokens(
                self.total("relative_expected_first_tokens"),
                self.total("relative_first_tokens"),
                self.not_checked,
                others=self.total("relative_bound"),
            ),
        ]
        return [finding for finding in findings if finding is not None]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the batch."""
        return judged.verdict(
            (self.total("relative_expected"), self.total("relative_expected_first_tokens")),
            (self.total("relative_bound"), self.total("relative_first_tokens")),
            rho=1.0 if self._inconsistent is None else self._inconsistent[1].ratio,
            margin=self._margin * self._redrawn,
        )

    @property
    def _margin(self) -> float:
        """How many times larger damage may be than it is computed."""
        moments = self.workplace.moments.values()
        return max(margin(moment, common) for moment in moments for common in self._common)

    @cached_property
    def _common(self) -> tuple[Commonness, ...]:
        """How common the words are that each edit is written at."""
        model, lookups = self.workplace.model, self.observation.lookups
        return tuple(
            commonness(model, edit, at) for edit, at in zip(self.requests, lookups, strict=True)
        )

    @cached_property
    def _redrawn(self) -> float:
        """How many times larger another draw of the contexts may make an editor's damage."""
        keys = self.observation.keys[self.workplace.layers[0]]
        if self.workplace.method.over_layers:
            return 1.0
        if keys.shape[1] <= FEWEST_PREFIXED:
            return float("inf")
        if self._inconsistent is None:
            return 1.0
        (moment,) = self.workplace.moments.values()
        return growth(keys, moment, seed=self.workplace.seed)

    @cached_property
    def _inconsistent(self) -> tuple[Request, Split] | None:
        """The edit with the smallest ρ; ``None`` for a method whose two keys are one."""
        method = self.workplace.method
        if method.along == method.divide_by:
            return None
        ((layer, moment),) = self.workplace.moments.items()
        try:
            splits = [denominators(own, moment).split for own in self.observation.keys[layer]]
        except ValueError as error:
            raise UserError(f"layer {layer} of {self.workplace.model.name}: {error}") from error
        return min(zip(self.requests, splits, strict=True), key=lambda each: abs(each[1].ratio))

    def _ratio(self) -> Finding | None:
        if self._inconsistent is None:
            return None
        request, split = self._inconsistent
        return judged.ratio(split, request.subject, self.total("relative_expected"))

    def _weight(self) -> Finding | None:
        """What λ leaves of the change at a key of ordinary length, kᵀC⁻¹k = d_mlp."""
        first = self.layers[0].layer
        return weight(
            self.workplace.geometries[first], len(self.requests), self.bare, layers=len(self.layers)
        )  # fmt: skip

    def _received(self, shares: Sequence[Tensor | None]) -> Tensor | None:
        known = [share for share in shares if share is not None]
        if len(known) < len(self.layers):
            return None
        return received(self.workplace.method, known)


def check_batch(workplace: Workplace, requests: Sequence[Request]) -> Preflight:
    """Checks a batch.

    Args:
        workplace: What with.
        requests: The edits.

    Returns:
        What was found.

    Raises:
        UserError: If a request cannot be looked up in one of the contexts.
    """
    method, model = workplace.method, workplace.model
    observation = observe_batch(model, requests, workplace.layers, workplace.prefixes)
    longest, share = _lengths(workplace, observation)
    checks: list[LayerCheck] = []
    rest = torch.ones(len(requests), dtype=torch.float64)
    for i, layer in enumerate(workplace.layers):
        part = left(method.spread, len(workplace.layers), i)
        try:
            checked = check_layer(
                observation.keys[layer], longest * part, longest * part * rest, share,
                workplace.geometries[layer], workplace.streams[layer], layer=layer,
            )  # fmt: skip
        except ZeroDivisionError as error:
            raise no_metric(method, error) from error
        checks.append(checked)
        if checked.shares is not None and method.in_stream:
            rest = rest * (1 - part * checked.shares.bare).abs()
    return Preflight(
        workplace, tuple(requests), observation, longest, share, tuple(checks),
        _family(workplace, observation),
    )  # fmt: skip


def _lengths(
    workplace: Workplace, observation: BatchObservation
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """‖z − h‖ or ‖v* − v‖ at most, and the share of it that is expected.

    ‖δ‖ is clamped and made in a given number of steps, and v may lie apart from what δ is added to.
    """
    method, stream = workplace.method, observation.stream
    optimiser = steps(workplace.chosen.target, stream.shape[-1])
    added_to, apart = stream, torch.zeros(len(stream), dtype=stream.dtype)
    if not method.in_stream:
        layer = workplace.layers[-1]
        values = workplace.model.mlp_output(observation.keys[layer], layer)
        added_to = values[:, 0]
        if method.subtract is not None:
            apart = (added_to - combined(values, method.subtract)).norm(dim=1)
    return lengths(optimiser, added_to.norm(dim=1), apart)


def _family(workplace: Workplace, observation: BatchObservation) -> tuple[InFamily, ...]:
    """Every method of the table at the first edited layer, with the same keys."""
    keys = observation.keys[workplace.layers[0]]
    rows = (_in_family(workplace, method, keys) for method in METHODS.values())
    return tuple(row for row in rows if row is not None)


def _in_family(
    workplace: Workplace, method: Method, keys: Float[Tensor, "m n_ctx d_mlp"]
) -> InFamily | None:
    """One method; ``None`` where the chosen parameters leave it no metric, or it takes too long."""
    if method in workplace.not_compared:
        return None
    geometry, stream = workplace.under(method), workplace.streams[workplace.layers[0]]
    try:
        weighed = geometry.weighed(len(keys))
    except ZeroDivisionError:
        return None
    shares, condition = None, float("inf")
    try:
        update = geometry.update(keys, torch.eye(len(keys), dtype=torch.float64), weighed=weighed)
        shares = shares_of(update, keys, stream)
        condition = update.condition_number if method.together else 1.0
    except ZeroDivisionError:
        pass
    return InFamily(
        method, geometry.in_effect, geometry.rank, len(keys), shares, condition, weighed[1]
    )


def weight(
    geometry: Geometry, edits: int, bare: Float[Tensor, " m"] | None, *, layers: int = 1
) -> Finding | None:
    """What λ leaves of the change at a key of ordinary length, kᵀC⁻¹k = d_mlp.

    Args:
        geometry: The layer under the method.
        edits: How many edits are made together.
        bare: The share of its change that each bare prompt receives; ``None`` where M is singular.
        layers: How many layers there are, all alike.

    Returns:
        The finding ``weight``; ``None`` for a method without λ.
    """
    value, d_mlp = weight_beside(geometry, edits), geometry.moment.d_mlp
    share = torch.tensor([d_mlp / (value + d_mlp)])
    ordinary = float(received(geometry.method, [share] * layers))
    median = None if bare is None else float(bare.median())
    return judged.weight(value, d_mlp, ordinary=ordinary, median=median)


def directions(geometry: Geometry) -> Finding | None:
    """How many directions a layer has for the method; ``None`` for one that does not project."""
    return judged.directions(geometry.rank, geometry.moment.d_mlp, geometry["threshold"])


def _rank(layer: LayerCheck) -> int:
    return layer.rank or 0


def weight_beside(geometry: Geometry, edits: int) -> float:
    """λ as it stands beside kᵀC⁻¹k: EMMET's is μλ₀, and none for a single edit."""
    weight = geometry["weight"]
    if "damping" in geometry.method.parameters:
        return weight * geometry["damping"] if edits > 1 else 0.0
    return weight
