"""The inquiry into first tokens: what is measured, in which order, and the document it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from probes import bundled
from probes.definitions import SMALL_RATIO
from probes.first_token import attribution, cells, interventions, patching, projection, sinks
from probes.first_token import encoder as encoders
from probes.first_token.encoder import Encoder
from probes.first_token.patching import Patching
from probes.first_token.subjects import Case, Subject, measure
from probes.model.loaded import LoadedModel, describe
from probes.second_moment.moment import SecondMoment
from probes.statistics import estimate
from rome_diagnosis import envelope

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture

SCHEMA = "probes.first_token/1"
# Enough ordinary text for a mean over it, short enough to be read in seconds.
TEXTS, TEXT_TOKENS = 120, 64

Stage = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class FirstTokenProbes:
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
        found = self.document["attribution"]["shapley"]
        return {factor: float(share["mean"]) for factor, share in found.items()}

    def to_json(self) -> str:
        """The document as text."""
        return envelope.dumps(self.document)

    def to_html(self) -> str:
        """The document as a self-contained page."""
        from reports.pages.page import render

        return render(self.document)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each subject that was taken apart: Δρ and each factor's share of it."""
        import pandas as pd

        return pd.DataFrame(self.document["attribution"]["subjects"])

    def plot_shares(self, *, ax: Axes | None = None) -> Picture:
        """What each factor explains of Δρ."""
        from reports.figures.picture import of_first_tokens

        return of_first_tokens("shares", self.document, ax=ax)

    def plot_recovery(self, *, ax: Axes | None = None) -> Picture:
        """At which block ρ comes back when activations are patched."""
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

    def _repr_html_(self) -> str:
        from reports.pages.page import fragment

        return fragment(self.document)

    def __repr__(self) -> str:
        return f"FirstTokenProbes({self.document['attribution']['words']!r})"


def inquire(
    model: LoadedModel,
    layer: int,
    cases: Sequence[Case],
    prefixes: Sequence[str],
    moments: Mapping[int, SecondMoment],
    *,
    count: int,
    pairs: int,
    first_only: bool,
    seed: int,
    about: Mapping[str, Any],
    encoder: Encoder | None = None,
    stage: Stage = lambda name: None,
) -> FirstTokenProbes:
    """Measures where and why first-token keys differ.

    Args:
        model: The model.
        layer: The edited block.
        cases: The subjects to choose from.
        prefixes: Contexts 1…n.
        moments: Second moments by block; the edited one's is needed.
        count: How many subjects at most.
        pairs: Behind how many prefixes each subject is taken apart.
        first_only: Take only subjects that are one token, the prompt's first.
        seed: Of folds, shuffles, bootstraps and projections.
        about: What the document says about how it was asked for (``command``, ``source``,
            ``contexts_sampled``).
        encoder: An encoder to take the same statistics of.
        stage: Called with a word before each part of the work.

    Returns:
        The result.

    Raises:
        UserError: If fewer than two subjects can be used, or the model silently ignores an
            intervention.
    """
    stage("subjects")
    moment = moments[layer]
    subjects, skipped = measure(
        model, cases, layer, prefixes, moment, count=count, pairs=pairs, first_only=first_only
    )
    texts = bundled.texts()[:TEXTS]
    every = range(model.n_layers)
    stage("cells")
    made = cells.make(model, subjects, texts, prefixes)
    layers = _layers(made, cells.capture(model, made, every), moments, seed)
    stage("sinks")
    found_sinks = sinks.measure(model, [model.tokens(t).ids[:TEXT_TOKENS] for t in texts], every)
    stage("interventions")
    kind, effects = interventions.intervene(model, subjects, layer, seed=seed)
    stage("attribution")
    shares = attribution.attribute(model, subjects, layer, seed=seed)
    stage("patching")
    patches = patching.patch(model, subjects, layer, seed=seed)
    control = None
    if encoder is not None:
        stage("encoder")
        control = encoders.control(
            encoder, cases, prefixes, bundled.texts(), count=count, seed=seed
        )
    stage("projections")
    document = {
        **envelope.head(SCHEMA, about["command"], "scikit-learn"),
        "model": describe(model),
        "site": {"layer": layer, "hook": model.hook(layer, "key")},
        "second_moment": moment.describe(),
        "seed": seed,
        "subjects": {
            "n": len(subjects),
            "source": about["source"],
            "names": [subject.case.subject for subject in subjects],
            "skipped": [asdict(subject) for subject in skipped],
        },
        "contexts": {
            "n": len(prefixes),
            "sampled": about["contexts_sampled"],
            "prefixes": list(prefixes),
            "pairs": pairs,
        },
        "rho": {
            "unprefixed": asdict(_mean([subject.rho for subject in subjects], seed)),
            "prefixed": asdict(_mean([subject.rho_prefixed for subject in subjects], seed)),
            "collapse_limit": SMALL_RATIO,
            "below_limit": sum(abs(s.rho) < SMALL_RATIO for s in subjects) / len(subjects),
        },
        "cells": {cell.name: {"meaning": cells.MEANINGS[cell.name]} for cell in made},
        "layers": layers,
        "sinks": {"n_texts": len(texts), "layers": [asdict(block) for block in found_sinks]},
        "interventions": {"positions": kind, "effects": [asdict(effect) for effect in effects]},
        "attribution": asdict(shares) | {"words": attribution.in_words(shares)},
        "patching": asdict(patches) | {"words": _where(patches)},
        "projections": {
            "keys": asdict(projection.keys(subjects, seed=seed)),
            "directions": asdict(projection.directions(subjects, moment, seed=seed)),
        },
        "encoder": None if control is None else asdict(control),
    }
    document["findings"] = _findings(document, layer)
    clean = envelope.plain(envelope.finite(document))
    return FirstTokenProbes(clean, subjects)


def _layers(
    made: Sequence[cells.Cell],
    keys: Mapping[int, Mapping[str, Any]],
    moments: Mapping[int, SecondMoment],
    seed: int,
) -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    by_name = {cell.name: cell for cell in made}
    pairs = [pair for pair in cells.PAIRS if set(pair) <= set(by_name)]
    found = []
    # Matrices of a few hundred rows: more threads would mostly wait for one another.
    with threadpool_limits(1):
        for layer, of_cells in keys.items():
            moment = moments.get(layer)
            found.append(
                {
                    "layer": layer,
                    "whitened": moment is not None,
                    "cells": {
                        name: asdict(cells.describe(of_cells[name], moment)) for name in by_name
                    },
                    "pairs": [
                        asdict(
                            cells.compare(by_name[a], by_name[b], dict(of_cells), moment, seed=seed)
                        )
                        for a, b in pairs
                    ],
                }
            )
    return found


def _where(found: Patching) -> str:
    """At which block ρ recovers, as a sentence."""
    entering = [
        patch
        for patch in found.patches
        if patch.site == "resid_pre" and patch.direction == "into_bare"
    ]
    way = ", ".join(f"{patch.recovered:.0%} at block {patch.block}" for patch in entering)
    attention = [
        patch
        for patch in found.patches
        if patch.site == "attention_up_to" and patch.direction == "into_bare"
    ][-1]
    return (
        f"The residual stream of the prefixed run, written into the bare one where it enters a "
        f"block, brings ρ back by {way}; all attention outputs up to block {attention.block} "
        f"without the embedding by {attention.recovered:.0%}."
    )


def _findings(document: Mapping[str, Any], layer: int) -> list[dict[str, str]]:
    block = next(entry for entry in document["layers"] if entry["layer"] == layer)
    first, prefixed = block["cells"]["first_bare"], block["cells"]["first_prefixed"]
    lines = {
        "spread": (
            f"At block {layer} bare first-token keys vary by {first['spread']:.3f} of their mean "
            f"square, the same subjects' prefixed keys by {prefixed['spread']:.3f}; they span "
            f"{first['effective_rank']:.1f} and {prefixed['effective_rank']:.1f} directions."
        )
    }
    probe = next(
        (pair["probe"] for pair in block["pairs"] if pair["cells"] == ("first_bare", "later_bare")),
        None,
    )
    if probe:
        lines["probe"] = (
            f"A logistic probe tells first from later keys of subjects it has not seen with AUC "
            f"{probe['auc']:.3f}; with shuffled labels {probe['null_mean']:.3f}, at most "
            f"{probe['null_largest']:.3f}."
        )
    effects = {effect["name"]: effect for effect in document["interventions"]["effects"]}
    told = []
    for name, words in (
        ("sees the prefix", "letting it attend to the prefix"),
        ("later position", "telling it a later position"),
        ("spaced form", "giving it the spaced form"),
        ("neutral token", "one neutral token in front"),
    ):
        effect = effects[name]
        if effect["reason"] is not None:
            told.append(f"{words} does not apply ({effect['reason']})")
        elif effect["recovered"] is not None:
            told.append(f"{words} brings ρ back by {effect['recovered']:.0%}")
    lines["interventions"] = f"Of the bare first token: {'; '.join(told)}."
    lines["attribution"] = document["attribution"]["words"]
    lines["patching"] = document["patching"]["words"]
    if document["encoder"]:
        control = document["encoder"]
        lines["encoder"] = (
            f"In the encoder {control['name']}, block {control['layer']}, ρ of {control['n']} "
            f"subjects that stand first is {control['rho_unprefixed']['mean']:.3f} "
            f"({control['below_limit']:.0%} below {document['rho']['collapse_limit']}); here it is "
            f"{document['rho']['unprefixed']['mean']:.3f} ({document['rho']['below_limit']:.0%})."
        )
    return [{"id": name, "message": line} for name, line in lines.items()]


def _mean(values: Sequence[float], seed: int) -> Any:
    return estimate(values, seed=seed)
