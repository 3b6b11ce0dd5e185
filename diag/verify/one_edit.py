"""One edit, performed for real in three variants, and what became of the model.

The fourth arm, ``c_rome_prefixed``, has C-ROME's weights; a prefix is put in front of its test
prompts, because the key it was written for is a prefixed one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from diag.judgement.collapse import collapsed
from diag.mathematics.damage import rms_change
from diag.mathematics.update import RankOne, chosen, rank_one
from diag.verify.behaviour import WORDINGS, Behaviour, Recall, Wording
from probes.edited.perplexity import Perplexity, PerplexityMeter
from probes.edited.weights import edited, relative_norm
from probes.forward.generate import generate, n_gram_entropy
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase
from probes.request.lookup import lookup
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue, optimise
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

Arm = Literal["rome", "c_rome", "p_rome", "c_rome_prefixed"]
ARMS: tuple[Arm, ...] = get_args(Arm)
CRomeTarget = Literal["published", "consistent"]

GENERATED_TOKENS = 40
SAMPLED_PROMPTS = 4
TOP_K = 5  # of the published evaluation's generation


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all edits of a run have in common.

    Attributes:
        prefixes: Contexts 1…n of the edit; the first is the editing prefix of the fourth arm.
        unseen_prefix: A prefix that is not among them.
        hyperparameters: Of the optimisation of v*.
        c_rome_target: ``published`` keeps v* = v_u + δ for C-ROME too; ``consistent`` takes
            v̄ + δ, so that δ = 0 edits nothing.
        collapse_ratio: The criterion on the perplexity ratio.
        seed: Of the sampled generations.
        generated_tokens: Their length.
    """

    prefixes: tuple[str, ...]
    unseen_prefix: str
    hyperparameters: Hyperparameters
    c_rome_target: CRomeTarget
    collapse_ratio: float
    seed: int
    generated_tokens: int = GENERATED_TOKENS

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self) | {"prefixes": list(self.prefixes)}


class Bench:
    """A model with everything that is measured on it, ready for any number of edits."""

    def __init__(
        self,
        model: LoadedModel,
        layer: int,
        moment: SecondMoment,
        settings: Settings,
        *,
        texts: Sequence[str],
        known: Sequence[EditCase] = (),
    ) -> None:
        """Runs the text set and the known facts through the unedited model.

        Args:
            model: The loaded model, float32.
            layer: The edited block.
            moment: Second moment of its keys.
            settings: See :class:`Settings`.
            texts: For perplexity.
            known: Facts whose recall stands for a downstream task.

        Raises:
            UserError: If the texts or facts cannot be used.
        """
        self.model, self.layer, self.moment, self.settings = model, layer, moment, settings
        self.texts = PerplexityMeter(model, texts, layer)
        self.recall = Recall(model, known, layer)
        self._wordings: dict[Wording, str] = {
            "bare": "",
            "editing_prefix": settings.prefixes[0] if settings.prefixes else "",
            "unseen_prefix": settings.unseen_prefix,
        }

    def target_values(self, cases: Sequence[EditCase]) -> list[TargetValue]:
        """v* of each case, optimised in one batch.

        Raises:
            UserError: If one of the cases cannot be edited.
        """
        return optimise(
            self.model,
            [case.request for case in cases],
            self.settings.prefixes,
            self.layer,
            self.settings.hyperparameters,
            batch=len(cases),
        )

    def factors(self, case: EditCase, target: TargetValue) -> dict[str, RankOne]:
        """The update of each variant.

        Args:
            case: The edit.
            target: Its optimised value.

        Returns:
            The factors.

        Raises:
            UserError: If a denominator is exactly zero.
        """
        sites = [lookup(self.model, case.request, p) for p in ("", *self.settings.prefixes)]
        captured = capture(self.model, sites, self.layer)
        keys, values = captured.keys, captured.values
        found: dict[str, RankOne] = {}
        consistent = self.settings.c_rome_target == "consistent"
        for name, editor in EDITORS.items():
            # δ goes on top of the output as it was captured, so that δ = 0 is exactly no change.
            start = chosen(values, editor.subtract if consistent else "bare")
            try:
                found[name] = rank_one(editor, keys, values, start + target.delta, self.moment)
            except ZeroDivisionError as error:
                raise UserError(f"the edit of {case.request.subject!r}: {error}") from error
        return found

    def measure(self, case: EditCase, target: TargetValue) -> dict[str, Any]:
        """Performs one edit in every variant and measures the model after each.

        Args:
            case: The edit and what tests it.
            target: Its optimised value.

        Returns:
            The contract's object for one edit, plain JSON values.

        Raises:
            UserError: If the edit cannot be performed.
        """
        edit = case.request
        factors = self.factors(case, target)
        behaviour = Behaviour(self.model, case, self._wordings, self.layer)
        text_before = self._generate(case)
        arms: dict[str, Any] = {}
        for variant in EDITORS:
            change = factors[variant]
            replies = behaviour.after([change])
            with edited(self.model, [change], self.layer):
                text_after = self._generate(case)
            weights = self._of_weights(change, edit.subject)
            said = {
                wording: _with_generation(
                    behaviour.describe(wording, replies), wording, case, text_before, text_after
                )
                for wording in WORDINGS
            }
            arms[variant] = weights | said["bare"]
            if variant == "c_rome":
                arms["c_rome_prefixed"] = (
                    weights
                    | {"prefix": self._wordings["editing_prefix"]}
                    | said["editing_prefix"]
                    | {
                        "unseen_prefix": {"prefix": self._wordings["unseen_prefix"]}
                        | said["unseen_prefix"]
                    }
                )
        first = lookup(self.model, edit)
        limit = self.settings.collapse_ratio
        return {
            "request": {
                "subject": edit.subject,
                "prompt": edit.prompt,
                "target_new": edit.target_new,
                "target_true": edit.target_true,
                "case_id": case.case_id,
                "group": case.group,
            },
            "site": {
                "layer": self.layer,
                "hook": self.model.hook(self.layer, "key"),
                "token": first.token,
                "index": first.index,
                "is_first_token": first.is_first_token,
            },
            "optimisation": {
                "steps": target.steps,
                "loss": target.losses[-1],
                "losses": list(target.losses),
                "probability": target.probability,
                "delta_norm": float(target.delta.norm()),
                "initial_norm": float(target.initial.norm()),
                "clamp_saturated": target.clamp_saturated,
            },
            "arms": {arm: arms[arm] for arm in ARMS},
            "collapsed": {
                arm: collapsed(arms[arm]["perplexity"]["ratio"], limit=limit) for arm in ARMS
            },
        }

    def _of_weights(self, change: RankOne, subject: str) -> dict[str, Any]:
        """What follows from the weights alone, whatever stands in front of test prompts."""
        # (v* − v) over a direction of length 1, as the published code prints the two.
        numerator = float(change.r.norm()) * abs(change.denominator)
        return {
            "denominator": change.denominator,
            "denominator_normalised": change.denominator / float(change.u.norm()),
            "numerator_norm": numerator,
            "update_norm": change.norm,
            "relative_update_norm": relative_norm(self.model, change, self.layer),
            "damage": self._damage(change, numerator),
            "perplexity": _perplexity(self.texts.before, self.texts.after([change])),
            "recall": self.recall.after([change], without=subject),
        }

    def _damage(self, change: RankOne, numerator: float) -> dict[str, Any]:
        """The closed form beside what the edit does to the text set."""
        measured = self.texts.rms_change([change])
        predicted = why_not = typical = None
        if self.moment.moment is None:
            why_not = "C is the identity: without a corpus moment there is no closed form"
        else:
            predicted = rms_change(numerator, change.u, change.denominator, self.moment.moment)
            if self.model.norm_behind_mlp:
                why_not = "a norm behind the MLP rescales the change before the residual stream"
            elif self.moment.background is None:
                why_not = "no residual norm comes with this second moment"
            else:
                typical = self.moment.background.residual_norm
        return {
            "predicted": _finite(predicted),
            "measured": _finite(measured),
            "relative": _finite(_over(predicted, typical)),
            "measured_relative": _finite(_over(measured, typical)),
            "not_checked": why_not,
        }

    def _generate(self, case: EditCase) -> dict[str, Any]:
        """Greedy answers under every wording, and sampled text for the entropy."""
        greedy = [prefix + case.request.text for prefix in self._wordings.values()]
        sampled = [case.request.text, *case.paraphrases][:SAMPLED_PROMPTS]
        texts = generate(
            self.model,
            [*greedy, *sampled],
            n_tokens=self.settings.generated_tokens,
            top_k=[1] * len(greedy) + [TOP_K] * len(sampled),
            seed=self.settings.seed,
        )
        continued = texts[len(greedy) :]
        return {
            "answers": dict(zip(self._wordings, texts[: len(greedy)], strict=True)),
            "entropy": n_gram_entropy(continued),
            "text": sampled[0] + continued[0],
        }


def _with_generation(
    said: Mapping[str, Any],
    wording: Wording,
    case: EditCase,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> dict[str, Any]:
    """Adds what free generation gives to what teacher forcing gave."""
    answer = after["answers"][wording]
    target = str(case.request.target_new).strip()
    efficacy = said["efficacy"] | {
        "generated": answer,
        "generated_before": before["answers"][wording],
        "generated_success": answer.strip().startswith(target),
    }
    return {
        **said,
        "efficacy": efficacy,
        "entropy": {"before": before["entropy"], "after": after["entropy"]},
        "text": after["text"],
    }


def _perplexity(before: Perplexity, after: Perplexity) -> dict[str, Any]:
    def compare(old: float, new: float) -> dict[str, float | None]:
        return {"before": _finite(old), "after": _finite(new), "ratio": _finite(new / old)}

    return compare(before.token_weighted, after.token_weighted) | {
        "text_mean": compare(before.text_mean, after.text_mean),
        "n_tokens": before.n_tokens,
        "n_texts": before.n_texts,
        "bos": before.bos,
    }


def _over(size: float | None, typical: float | None) -> float | None:
    return None if size is None or typical is None else size / typical


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
