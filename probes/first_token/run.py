"""All first-token probes in order, and the document of their results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from probes import bundled, memory
from probes.first_token import attribution, cells, interventions, patching, projection, sinks
from probes.first_token import encoder as encoders
from probes.first_token.encoder import Encoder, EncoderControl
from probes.first_token.findings import findings, where
from probes.first_token.subjects import Skipped, Subject, SubjectCase, measure_subjects
from probes.model.loaded import describe_model
from probes.second_moment.moment import SecondMoment
from probes.setup import Prepared
from probes.statistics import estimate_mean
from rome_diagnosis import envelope
from rome_diagnosis.limits import RATIO_COLLAPSE

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture

SCHEMA = "probes.first_token/1"
# Enough ordinary text for a mean over it, short enough to be read in seconds.
TEXTS, TEXT_TOKENS = 120, 64

Stage = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class FirstTokenProbes(envelope.Saved):
    """Where and why first-token keys differ.

    Attributes:
        document: The result as it is saved (schema ``probes.first_token/1``): plain JSON values.
        subjects: The measured subjects, with their keys at the edited block.
    """

    document: Mapping[str, Any]
    subjects: Sequence[Subject]

    @property
    def shapley(self) -> dict[str, float]:
        """Each factor's mean share of Δρ."""
        shares = self.document["attribution"]["shapley"]
        return {factor: float(share["mean"]) for factor, share in shares.items()}

    def to_pandas(self) -> pandas.DataFrame:
        """One row per subject: Δρ and each factor's share of it."""
        import pandas as pd

        return pd.DataFrame(self.document["attribution"]["subjects"])

    def plot_shares(self, *, ax: Axes | None = None) -> Picture:
        """What each factor explains of Δρ."""
        from reports.figures.picture import of_first_tokens

        return of_first_tokens("shares", self.document, ax=ax)

    def plot_recovery(self, *, ax: Axes | None = None) -> Picture:
        """At which block ρ recovers when activations are patched."""
        from reports.figures.picture import of_first_tokens

        return of_first_tokens("recovery", self.document, ax=ax)

    def plot_keys(
        self, method: Literal["pca", "tsne"] = "tsne", *, ax: Axes | None = None
    ) -> Picture:
        """Unprefixed and prefixed keys in two dimensions."""
        from reports.figures.picture import of_first_tokens

        return of_first_tokens(f"keys_{method}", self.document, ax=ax)

    def plot_directions(
        self, method: Literal["pca", "tsne"] = "tsne", *, ax: Axes | None = None
    ) -> Picture:
        """The directions C⁻¹k̄ in two dimensions."""
        from reports.figures.picture import of_first_tokens

        return of_first_tokens(f"directions_{method}", self.document, ax=ax)

    def __repr__(self) -> str:
        return f"FirstTokenProbes({self.document['attribution']['words']!r})"


@dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """What is measured on a prepared model.

    Attributes:
        cases: The subjects to choose from.
        source: Where they come from.
        count: Take at most this many subjects.
        pairs: Prefixes per subject used in the attribution.
        first_only: Take only subjects that are one token, the prompt's first.
        moments: Second moments by block; the edited one's is needed.
        encoder: An encoder to measure in the same way.
        command: The command that repeats the measurement.
    """

    cases: Sequence[SubjectCase]
    source: str
    count: int
    pairs: int
    first_only: bool
    moments: Mapping[int, SecondMoment]
    encoder: Encoder | None
    command: str


def measure_all(
    prepared: Prepared, plan: ProbePlan, *, stage: Stage = lambda name: None
) -> FirstTokenProbes:
    """Measures where and why first-token keys differ.

    Args:
        prepared: Model, layer, prefixes, seed and second moment.
        plan: What is measured.
        stage: Called with the name of each part of the work before it begins.

    Returns:
        The result.

    Raises:
        UserError: If fewer than two subjects can be used, or the model silently ignores an
            intervention.
    """

    def begin(part: str) -> None:
        memory.give_back()
        stage(part)

    begin("subjects")
    subjects, skipped = measure_subjects(
        prepared.model, plan.cases, prepared.layer, prepared.prefixes, prepared.moment,
        count=plan.count, pairs=plan.pairs, first_only=plan.first_only,
    )  # fmt: skip
    document = {
        **_head(prepared, plan, subjects, skipped),
        **_anatomy(prepared, plan, subjects, begin),
        **_causes(prepared, subjects, begin),
    }
    control = _encoder_control(prepared, plan, begin)
    begin("projections")
    document["projections"] = {
        "keys": asdict(projection.keys(subjects, seed=prepared.seed)),
        "directions": asdict(projection.directions(subjects, prepared.moment, seed=prepared.seed)),
    }
    document["encoder"] = None if control is None else asdict(control)
    document["findings"] = findings(document, prepared.layer)
    clean = envelope.plain(envelope.finite(document))
    return FirstTokenProbes(clean, subjects)


def _head(
    prepared: Prepared, plan: ProbePlan, subjects: Sequence[Subject], skipped: Sequence[Skipped]
) -> dict[str, Any]:
    """What was measured: model, subjects, contexts, and ρ of the subjects."""
    layer, seed = prepared.layer, prepared.seed
    return {
        **envelope.head(SCHEMA, plan.command, "scikit-learn"),
        "model": describe_model(prepared.model),
        "site": {"layer": layer, "hook": prepared.model.hook(layer, "key")},
        "second_moment": prepared.moment.describe(prepared.model.computed_in),
        "seed": seed,
        "subjects": {
            "n": len(subjects),
            "source": plan.source,
            "names": [subject.case.subject for subject in subjects],
            "skipped": [asdict(subject) for subject in skipped],
        },
        "contexts": {
            "n": len(prepared.prefixes),
            "sampled": prepared.sampled,
            "prefixes": list(prepared.prefixes),
            "pairs": plan.pairs,
        },
        "rho": {
            "unprefixed": asdict(_mean([subject.rho for subject in subjects], seed)),
            "prefixed": asdict(_mean([subject.rho_prefixed for subject in subjects], seed)),
            "collapse_limit": RATIO_COLLAPSE.value,
            "below_limit": sum(abs(s.rho) < RATIO_COLLAPSE.value for s in subjects) / len(subjects),
        },
    }


def _anatomy(
    prepared: Prepared, plan: ProbePlan, subjects: Sequence[Subject], stage: Stage
) -> dict[str, Any]:
    """How keys differ at every block: cells and sinks."""
    model = prepared.model
    texts = bundled.texts()[:TEXTS]
    blocks = range(model.n_layers)
    stage("cells")
    groups = cells.make(model, subjects, texts, prepared.prefixes)
    captured = cells.capture(model, groups, blocks)
    layers = _layers(groups, captured, plan.moments, prepared.seed)
    stage("sinks")
    by_block = sinks.measure_sinks(
        model, [model.tokens(t).ids[:TEXT_TOKENS] for t in texts], blocks
    )
    return {
        "cells": {cell.name: {"meaning": cells.MEANINGS[cell.name]} for cell in groups},
        "layers": layers,
        "sinks": {"n_texts": len(texts), "layers": [asdict(block) for block in by_block]},
    }


def _causes(prepared: Prepared, subjects: Sequence[Subject], stage: Stage) -> dict[str, Any]:
    """Why they differ at the edited block: interventions, attribution and patching."""
    model, layer, seed = prepared.model, prepared.layer, prepared.seed
    stage("interventions")
    kind, effects = interventions.intervene(model, subjects, layer, seed=seed)
    stage("attribution")
    shares = attribution.attribute(model, subjects, layer, seed=seed)
    stage("patching")
    patches = patching.patch(model, subjects, layer, seed=seed)
    return {
        "interventions": {"positions": kind, "effects": [asdict(effect) for effect in effects]},
        "attribution": asdict(shares) | {"words": attribution.in_words(shares)},
        "patching": asdict(patches) | {"words": where(patches)},
    }


def _encoder_control(prepared: Prepared, plan: ProbePlan, stage: Stage) -> EncoderControl | None:
    """The same statistics of an encoder, if one is given."""
    if plan.encoder is None:
        return None
    stage("encoder")
    return encoders.control(
        plan.encoder, plan.cases, prepared.prefixes, bundled.texts(),
        count=plan.count, seed=prepared.seed,
    )  # fmt: skip


def _layers(
    groups: Sequence[cells.Cell],
    keys: Iterable[tuple[int, Mapping[str, Any]]],
    moments: Mapping[int, SecondMoment],
    seed: int,
) -> list[dict[str, Any]]:
    """Statistics of every cell and pair of cells, block by block."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    by_name = {cell.name: cell for cell in groups}
    pairs = [pair for pair in cells.PAIRS if set(pair) <= set(by_name)]
    layers = []
    # Matrices of a few hundred rows: several threads on one would mostly wait for one another.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for layer, of_cells in keys:
            moment = moments.get(layer)

            def compare(
                pair: tuple[str, str],
                of: Mapping[str, Any] = of_cells,
                moment: SecondMoment | None = moment,
            ) -> dict[str, Any]:
                one, other = (by_name[name] for name in pair)
                return asdict(cells.compare_cells(one, other, dict(of), moment, seed=seed))

            layers.append(
                {
                    "layer": layer,
                    "whitened": moment is not None,
                    "cells": {
                        name: asdict(cells.describe_cells(of_cells[name], moment))
                        for name in by_name
                    },
                    "pairs": list(pool.map(compare, pairs)),
                }
            )
    return layers


def _mean(values: Sequence[float], seed: int) -> Any:
    """Mean over subjects with its interval."""
    return estimate_mean(values, seed=seed)
