"""The diagnosis of one edit: what is measured, in which order, and the result it makes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from diag.judgement import findings
from diag.judgement.summary import paragraph
from diag.judgement.verdict import verdict
from diag.mathematics import damage, population, update
from diag.mathematics.intervals import ratio_interval
from diag.mathematics.plane import plane
from probes.keys.one_edit import capture
from probes.keys.profile import Profile
from probes.keys.profile import profile as first_token_profile
from probes.model.loaded import LoadedModel, describe
from probes.request.lookup import Lookup, lookup
from probes.request.request import Request
from probes.second_moment.moment import SecondMoment
from probes.statistics import cosine
from rome_diagnosis import envelope, files
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    import pandas

    from reports.figures.picture import Picture

SCHEMA = "diag.keys/1"


@dataclass(frozen=True, repr=False)
class KeyDiagnosis:
    """What one edit would do, and why.

    Attributes:
        document: The result as it is saved (schema ``diag.keys/1``): plain JSON values.
        keys: Keys under contexts 0…n, row 0 the bare prompt's, ``[n_ctx, d_mlp]`` float64.
        moment: The second moment they were judged by.
    """

    document: Mapping[str, Any]
    keys: Float[Tensor, "n_ctx d_mlp"]
    moment: SecondMoment

    @property
    def verdict(self) -> str:
        """``collapse_risk``, ``safe`` or ``unclear``."""
        return str(self.document["verdict"])

    @property
    def denominators(self) -> Mapping[str, Any]:
        """The three denominators, raw and normalised, and ρ."""
        found: Mapping[str, Any] = self.document["denominators"]
        return found

    @property
    def ratio(self) -> float:
        """ρ."""
        return float(self.denominators["ratio"])

    def to_json(self) -> str:
        """The document as text."""
        return envelope.dumps(self.document)

    def to_html(self) -> str:
        """The document as a self-contained page."""
        from reports.pages.page import render

        return render(self.document)

    def to_pandas(self) -> pandas.DataFrame:
        """One row: the numbers a table of many edits would hold (``diag.screen``'s columns)."""
        import pandas as pd

        d = self.document
        return pd.DataFrame(
            [
                {
                    "subject": d["request"]["subject"],
                    "prompt": d["request"]["prompt"],
                    "token": d["lookup"]["unprefixed"]["token"],
                    "token_index": d["lookup"]["unprefixed"]["index"],
                    "is_first_token": d["lookup"]["unprefixed"]["is_first_token"],
                    "d_rome": d["denominators"]["rome"],
                    "d_c_rome": d["denominators"]["c_rome"],
                    "d_p_rome": d["denominators"]["p_rome"],
                    "rho": d["denominators"]["ratio"],
                    "length_ratio": d["keys"]["whitened_length_ratio"],
                    "whitened_cosine": d["keys"]["whitened_cosine"],
                    "bound_rome": d["damage"]["rome"]["bound"],
                    "bound_c_rome": d["damage"]["c_rome"]["bound"],
                    "relative_bound_rome": d["damage"]["rome"]["relative_bound"],
                    "verdict": d["verdict"],
                }
            ]
        )

    def plot_terms(self) -> Picture:
        """Each variant's terms of the update equation over C-ROME's."""
        from reports.figures.picture import of_edit

        return of_edit("terms", self.document)

    def plot_split(self) -> Picture:
        """ρ to scale: a length times a cosine."""
        from reports.figures.picture import of_edit

        return of_edit("split", self.document)

    def plot_plane(self) -> Picture:
        """Where k_u, the prefixed keys and C⁻¹k̄ lie, ordinary keys behind them."""
        from reports.figures.picture import of_edit

        return of_edit("plane", self.document)

    def save_tensors(self, path: str) -> None:
        """Writes ``unprefixed``, ``prefixed`` and ``second_moment`` as safetensors.

        Args:
            path: The file; written whole or not at all.

        Raises:
            UserError: If it cannot be written.
        """
        moment = self.moment.moment
        if moment is None:
            moment = torch.eye(self.moment.d_mlp, dtype=torch.float64)
        tensors = {
            "unprefixed": self.keys[0].clone(),
            "prefixed": self.keys.contiguous(),
            "second_moment": moment.contiguous(),
        }
        with files.atomic(path) as part:
            save_file(tensors, part, metadata={"schema": SCHEMA})

    def __repr__(self) -> str:
        return (
            f"KeyDiagnosis({self.document['request']['subject']!r}, {self.verdict}, "
            f"ρ = {self.ratio:.3g}, {self.document['summary']!r})"
        )

    def _repr_html_(self) -> str:
        from reports.pages.page import fragment

        return fragment(self.document)


def measure(
    model: LoadedModel,
    edit: Request,
    layer: int,
    prefixes: Sequence[str],
    moment: SecondMoment,
    *,
    clamp: float,
    seed: int,
    sampled: bool,
) -> KeyDiagnosis:
    """Measures one edit and judges it.

    Args:
        model: The model.
        edit: The fact and its prompt.
        layer: The edited block.
        prefixes: Contexts 1…n.
        moment: The second moment of that block's keys.
        clamp: Clamp factor of the optimised value.
        seed: Of the sampled contexts and of the bootstrap over them.
        sampled: Whether the contexts were sampled with that seed.

    Returns:
        The diagnosis.

    Raises:
        UserError: If a context cannot be looked up, or the keys are zero.
    """
    lookups = [lookup(model, edit, prefix) for prefix in ("", *prefixes)]
    captured = capture(model, lookups, layer)
    keys, values = captured.keys, captured.values
    if not torch.isfinite(keys).all():
        raise UserError(f"the keys of {model.name} are not finite in {model.dtype}: use float32")
    try:
        found = update.denominators(keys, moment)
    except ValueError as error:
        raise UserError(f"layer {layer} of {model.name}: {error}") from error
    interval = ratio_interval(keys, moment, seed=seed)
    background = moment.background
    residual_norm = (
        None if background is None or model.norm_behind_mlp else background.residual_norm
    )
    bounds = damage.bounds(keys, values, found, moment, clamp=clamp, residual_norm=residual_norm)
    relative = {variant: envelope.finite(bounds[variant].relative_bound) for variant in EDITORS}
    profile = first_token_profile(model, lookups, layer)
    samples = {
        "first": background.first_keys if background else None,
        "later": background.later_keys if background else None,
    }
    places = {
        name: None
        if sample is None or len(sample) < 2
        else population.place(keys[0], sample, moment)
        for name, sample in samples.items()
    }
    alike = (
        population.likeness(keys[0], background.first_keys, background.later_keys, moment)
        if background and len(background.first_keys) and len(background.later_keys)
        else None
    )
    sink = _longest_later(profile, background.residual_norm_before if background else None)
    checked = _findings(model, lookups, found, interval, bounds, relative, alike, sink, moment)
    # Another draw of the contexts can turn a safe edit into a dangerous one.
    fragile = any(f.id == "contexts" and f.status in ("warn", "fail") for f in checked)
    outcome = verdict(found.split.ratio, relative["rome"], fragile=fragile)
    document = {
        **envelope.head(
            SCHEMA, _command(model, edit, layer, prefixes, moment, clamp, seed, sampled)
        ),
        "model": describe(model),
        "site": {"layer": layer, "hook": model.hook(layer, "key")},
        "request": {
            "subject": edit.subject,
            "prompt": edit.prompt,
            "target_new": edit.target_new,
            "target_true": edit.target_true,
        },
        "contexts": {"seed": seed if sampled else None, "sampled": sampled, "n": len(prefixes)},
        "lookup": {
            "unprefixed": {
                "token": lookups[0].token,
                "index": lookups[0].index,
                "is_first_token": lookups[0].is_first_token,
                "tokens": [model.token_text(token) for token in lookups[0].ids],
            },
            "prefixed": [
                {"prefix": at.prefix, "token": at.token, "index": at.index} for at in lookups
            ],
        },
        "second_moment": moment.describe(),
        "keys": {
            "norm_unprefixed": float(keys[0].norm()),
            "norm_prefixed_mean": float(keys.mean(0).norm()),
            "cosine": cosine(keys[0], keys.mean(0)),
            "whitened_norm_unprefixed": found.split.norm_unprefixed,
            "whitened_norm_prefixed_mean": found.split.norm_mean,
            "whitened_length_ratio": found.split.length_ratio,
            "whitened_cosine": found.split.cosine,
        },
        "denominators": {
            **found.raw,
            **{f"{name}_normalised": value for name, value in found.normalised.items()},
            "ratio": found.split.ratio,
            "ratio_without_bare": found.split.without_bare,
            "ratio_interval": None if interval is None else list(interval),
        },
        "damage": {
            variant: {
                "residual": bounds[variant].residual,
                "bound": envelope.finite(bounds[variant].bound),
                "relative_bound": relative[variant],
            }
            for variant in EDITORS
        }
        | {"clamp_norm_factor": clamp, "residual_norm": residual_norm},
        "first_token": {
            "layers": [asdict(statistics) for statistics in profile.layers],
            "population": {
                name: None if where is None else asdict(where) for name, where in places.items()
            },
            "likeness": None if alike is None else asdict(alike),
            "concentration": {
                "first": population.concentration(background.first_keys, moment),
                "later": population.concentration(background.later_keys, moment),
            }
            if background and len(background.first_keys) > 1
            else None,
            "longest_later_position": None if sink is None else sink[1],
            "projection": plane(keys, moment),
        },
        "findings": [asdict(finding) for finding in checked],
        "verdict": outcome,
        "summary": paragraph(
            outcome,
            checked,
            rho=found.split.ratio,
            is_first_token=lookups[0].is_first_token,
            rome=relative["rome"],
            c_rome=relative["c_rome"],
        ),
    }
    # Through JSON and back, so that the document in memory is the one on disk to the last type.
    return KeyDiagnosis(envelope.plain(document), keys, moment)


def _findings(
    model: LoadedModel,
    lookups: Sequence[Lookup],
    found: update.Denominators,
    interval: tuple[float, float] | None,
    bounds: Mapping[str, damage.DamageBound],
    relative: Mapping[str, float | None],
    alike: population.Likeness | None,
    sink: tuple[float, dict[str, Any]] | None,
    moment: SecondMoment,
) -> list[findings.Finding]:
    """Holds every measurement against its limit."""

    def why_not(variant: str) -> str | None:
        if moment.is_identity:
            return "C is the identity: without a corpus moment there is no average to damage"
        if model.norm_behind_mlp:
            return (
                f"{model.name} has a norm behind its MLP, which rescales the change before it "
                "reaches the residual stream"
            )
        if bounds[variant].bound == math.inf:
            return "the denominator is exactly zero, so the update has no size"
        return None if moment.background else "no residual norm comes with this second moment"

    return [
        *(findings.damage(variant, relative[variant], why_not(variant)) for variant in relative),
        findings.ratio(found.split.ratio, found.split.length_ratio, found.split.cosine),
        findings.contexts(found.split.ratio, interval, relative["rome"]),
        findings.first_token(lookups[0].token, lookups[0].index),
        findings.token_form(lookups[0].token, [at.token for at in lookups[1:]]),
        findings.first_token_key(
            alike.cosine if alike else None, alike.later_percentile if alike else None
        ),
        findings.other_sink(
            sink[0] if sink else None,
            sink[1]["token"] if sink else None,
            sink[1]["index"] if sink else None,
        ),
        findings.second_moment(
            moment.source,
            moment.provenance.n_tokens if moment.provenance else None,
            moment.d_mlp,
            moment.ridge,
            moment.condition_number,
        ),
    ]


def _longest_later(profile: Profile, typical: float | None) -> tuple[float, dict[str, Any]] | None:
    """The position behind the first with the longest residual stream, over the corpus median."""
    later = [position for position in profile.positions if position.index > 0]
    if not later or not typical:
        return None
    longest = max(later, key=lambda position: position.residual_norm)
    ratio = longest.residual_norm / typical
    return ratio, asdict(longest) | {"residual_norm_ratio": ratio}


def _command(
    model: LoadedModel,
    edit: Request,
    layer: int,
    prefixes: Sequence[str],
    moment: SecondMoment,
    clamp: float,
    seed: int,
    sampled: bool,
) -> str:
    """The command that measures the same again."""
    words = ["python", "-m", "diag.keys", "--model", model.name, "--layer", str(layer)]
    words += [f"--subject={edit.subject}", f"--prompt={edit.prompt}"]
    for option, target in (("new", edit.target_new), ("true", edit.target_true)):
        if target is not None:
            words.append(f"--target-{option}={target}")
    if sampled:
        words += ["--n-prefixes", str(len(prefixes)), "--seed", str(seed)]
    else:
        words += [f"--prefix={prefix}" for prefix in prefixes]
        words += ["--seed", str(seed)]
    words.append("--bos" if model.bos else "--no-bos")
    if moment.source not in ("shipped", "estimated"):
        words += ["--second-moment", moment.source]
    words += ["--dtype", model.dtype, "--clamp-factor", f"{clamp:g}"]
    return shlex.join(words)
