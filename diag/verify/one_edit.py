"""One edit, performed for real by every editor, and what became of the model.

An arm is an editor and the way its edit is tested: bare, or with a prefix before the test prompts
(:data:`rome_diagnosis.editors.ARMS`). Arms of one editor share its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diag.judgement import outcome
from diag.keys.judge import judge
from diag.mathematics.damage import rms_change
from diag.mathematics.stream import Stream
from diag.mathematics.update import RankOne, chosen, rank_one
from diag.verify import document
from diag.verify.behaviour import WORDINGS, Behaviour, Recall, Wording
from diag.verify.settings import Facts, Settings
from probes import memory
from probes.edited.continued import continuations_of
from probes.edited.perplexity import PerplexityChange, PerplexityMeter
from probes.edited.weights import Change, relative_norm
from probes.forward.generate import n_gram_entropy
from probes.keys.observe import Observation, observe
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.request import prefixes
from probes.request.cases import EditCase
from probes.setup import Prepared
from probes.target_value.optimise import TargetValue, optimise
from probes.tasks.meter import TaskMeter
from rome_diagnosis.editors import ARMS, EDITORS
from rome_diagnosis.envelope import finite
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import FEWEST_GENERATED, FEWEST_TOKENS
from rome_diagnosis.progress import stages

SAMPLED_PROMPTS = 4
TOP_K = 5  # of the published evaluation's generation


class Bench:
    """A model with everything that is measured on it, ready for any number of edits."""

    def __init__(self, setup: Prepared, settings: Settings, *, quiet: bool = True) -> None:
        """Asks the unedited model which of the known facts it gives.

        Args:
            setup: Model, layer, contexts and second moment; weights in float32 or float64.
            settings: What is measured, and on what.
            quiet: Show no progress.

        Raises:
            UserError: If the texts or facts cannot be used.
        """
        self.model, self.layer, self.moment = setup.model, setup.layer, setup.moment
        self.prefixes, self.seed = setup.prefixes, setup.seed
        self.settings = settings
        self.facts = settings.facts or Facts.for_model(setup.model.name)
        with stages("preparing", quiet=quiet) as stage:
            self.texts, self.recall = self._unedited(stage)
            stage("sampling an unseen prefix")
            unseen = _unseen_prefix(self.model, self.prefixes, self.seed)
            stage("asking downstream tasks")
            tasks = settings.tasks
            self.tasks = None if tasks is None else TaskMeter(self.model, self.layer, tasks)
        self.wordings: dict[Wording, str] = {
            "bare": "",
            "editing_prefix": self.prefixes[0] if self.prefixes else "",
            "unseen_prefix": unseen,
        }

    def _unedited(self, stage: Callable[[str], None]) -> tuple[PerplexityMeter, Recall]:
        """The texts and facts, run through the model once for all benches on the same weights."""
        model, texts, facts = self.model, self.settings.texts, self.facts
        weights = fingerprint(model.state_dict)
        key = (weights, self.layer, model.arithmetic, model.bos, texts.digest, facts.digest)
        if model.kept.get("unedited", (None,))[0] != key:
            stage("tokenising the texts")
            meter = PerplexityMeter(model, texts.texts, self.layer)
            stage("asking for known facts")
            model.kept["unedited"] = (key, meter, Recall(model, facts.cases, self.layer))
        return model.kept["unedited"][1:]

    def measured_on(self) -> dict[str, Any]:
        """What a document says of the texts, of the facts and of the unedited model's tasks."""
        texts, facts = self.settings.texts, self.facts
        return {
            "texts": {
                "source": texts.source,
                "digest": texts.digest,
                "n_texts": len(texts.texts),
                "forced": texts.forced,
                "bos": self.model.bos,
            },
            "known_facts": {
                "source": facts.source,
                "digest": facts.digest,
                "n": self.recall.n,
                "tried": self.recall.tried,
            },
            **({} if self.tasks is None else {"tasks": self.tasks.describe()}),
        }

    def target_values(self, cases: Sequence[EditCase]) -> list[TargetValue]:
        """v* of each case, optimised in one batch.

        Raises:
            UserError: If one of the cases cannot be edited.
        """
        return optimise(
            self.model,
            [case.request for case in cases],
            self.prefixes,
            self.layer,
            self.settings.hyperparameters,
            batch=len(cases),
        )

    def observe(self, case: EditCase) -> Observation:
        """Keys and values of one edit, from the unedited model.

        Raises:
            UserError: If the edit cannot be looked up in one of the contexts.
        """
        return observe(self.model, case.request, self.layer, self.prefixes)

    def factors(self, observation: Observation, target: TargetValue) -> dict[str, RankOne]:
        """The update of each editor.

        Args:
            observation: Keys and values of the edit.
            target: Its optimised value.

        Returns:
            The factors, by editor.

        Raises:
            UserError: If a denominator is exactly zero.
        """
        keys, values = observation.keys, observation.values
        changes: dict[str, RankOne] = {}
        consistent = self.settings.c_rome_target == "consistent"
        for name, editor in EDITORS.items():
            # δ goes on top of the output as it was captured, so that δ = 0 is exactly no change.
            start = chosen(values, editor.subtract if consistent else "bare")
            try:
                changes[name] = rank_one(editor, keys, values, start + target.delta, self.moment)
            except ZeroDivisionError as error:
                subject = observation.request.subject
                raise UserError(f"the edit of {subject!r}: {error}") from error
        return changes

    def measure(
        self,
        case: EditCase,
        target: TargetValue,
        *,
        stage: Callable[[str], None] = lambda line: None,
    ) -> dict[str, Any]:
        """Performs one edit with every editor and measures the model after each.

        Args:
            case: The edit and what tests it.
            target: Its optimised value.
            stage: Called with a line of what is known so far and what is under way.

        Returns:
            The contract's object for one edit, plain JSON values.

        Raises:
            UserError: If the edit cannot be performed.
        """
        observation = self.observe(case)
        judgement = judge(
            observation,
            self.moment,
            hyperparameters=self.settings.hyperparameters,
            seed=self.seed,
        )
        factors = self.factors(observation, target)
        stage("what the edited models say")
        behaviour = Behaviour(self.model, case, self.wordings, self.layer)
        before, *after = self.written(case, [[], *([change] for change in factors.values())])
        arms: dict[str, Any] = {}
        known = ""
        for (name, change), written in zip(factors.items(), after, strict=True):
            replies, response = behaviour.after([change]), behaviour.response(change)
            by_wording = {
                wording: _with_generation(
                    behaviour.describe(wording, replies) | {"response": response[wording]},
                    wording, case, before, written,
                )
                for wording in WORDINGS
            }  # fmt: skip
            stage(f"{known}{EDITORS[name].short}: perplexity and other facts")
            weights = self._of_weights(change, judgement.stream, case.request.subject)
            ratio = weights["perplexity"]["ratio"]
            known += f"{EDITORS[name].short} ×{math.nan if ratio is None else ratio:.3g} · "
            for arm in ARMS.values():
                if arm.editor == name:
                    tested = self._prefixed(by_wording) if arm.prefixed else by_wording["bare"]
                    arms[arm.name] = weights | tested
        judged = {
            arm: outcome.judge(arms[arm], collapse_ratio=self.settings.collapse_ratio)
            for arm in ARMS
        }
        return {
            **document.of_edit(case, observation, target),
            "arms": {arm: arms[arm] for arm in ARMS},
            **document.of_outcomes(judgement, judged),
        }

    def _prefixed(self, by_wording: Mapping[Wording, Mapping[str, Any]]) -> dict[str, Any]:
        """What test prompts give after an editing prefix and, beside it, after an unseen one."""
        return {
            "prefix": self.wordings["editing_prefix"],
            **by_wording["editing_prefix"],
            "unseen_prefix": {
                "prefix": self.wordings["unseen_prefix"],
                **by_wording["unseen_prefix"],
            },
        }

    def _of_weights(self, change: RankOne, stream: Stream, subject: str) -> dict[str, Any]:
        """What follows from the weights alone, whatever precedes the test prompts."""
        # (v* − v) over a direction of length 1, as the published code prints the two.
        numerator = float(change.r.norm()) * abs(change.denominator)
        perplexity = self.perplexity([change])
        memory.give_back()
        return {
            "denominator": change.denominator,
            "denominator_normalised": change.denominator / float(change.u.norm()),
            "numerator_norm": numerator,
            "update_norm": change.norm,
            "relative_update_norm": relative_norm(self.model, change, self.layer),
            "damage": self._damage(change, stream, perplexity["n_tokens"]),
            "perplexity": perplexity,
            "recall": self.recall.after([change], without=subject),
            **({} if self.tasks is None else {"tasks": self.tasks.after([change])}),
        }

    def perplexity(self, changes: Sequence[Change]) -> dict[str, Any]:
        """Perplexity before and after changes, on as many texts as settle the outcome.

        Args:
            changes: What is added to the edited matrix.

        Returns:
            The contract's object.
        """
        settings = self.settings

        def settled(comparison: PerplexityChange) -> bool:
            return comparison.after.n_tokens >= FEWEST_TOKENS.value and outcome.settled(
                comparison.interval,
                collapse_ratio=settings.collapse_ratio,
                precision=settings.precision,
            )

        if settings.texts.forced:
            comparison = self.texts.compare(changes)
        else:
            comparison = self.texts.compare(changes, settled=settled)
        before, after = comparison.before, comparison.after
        return {
            **_compared(before.token_weighted, after.token_weighted),
            "ratio_interval": None if comparison.interval is None else list(comparison.interval),
            "text_mean": _compared(before.text_mean, after.text_mean),
            "n_tokens": before.n_tokens,
            "n_texts": before.n_texts,
            "bos": before.bos,
        }

    def _damage(self, change: RankOne, stream: Stream, n_tokens: int) -> dict[str, Any]:
        """The predicted change over the corpus beside the one over the texts that were measured."""
        measured = self.texts.rms_change([change], n_tokens)
        moment, denominator = self.moment.moment, change.denominator
        wanted = change.r * denominator
        predicted = None
        if moment is not None:
            predicted = rms_change(float(wanted.norm()), change.u, denominator, moment)
        relative = stream.change(change.u, denominator, wanted)
        scale = stream.contribution.scale
        known = stream.unit is not None and scale is not None
        return finite(
            {
                "predicted": predicted,
                "measured": measured,
                "relative": None if relative is None else relative.corpus,
                "relative_first_tokens": None if relative is None else relative.first_tokens,
                "measured_relative": measured * abs(scale or 0.0) / (stream.unit or 1.0)
                if known
                else None,
                "not_checked": stream.why_not,
            }
        )

    def written(self, case: EditCase, edits: Sequence[Sequence[Change]]) -> list[dict[str, Any]]:
        """Greedy answers under every wording, and sampled text for the entropy.

        Args:
            case: The edit whose prompts are continued.
            edits: The changes of each edited model; none are those of the unedited one.

        Returns:
            For each edited model ``answers`` by wording, ``entropy`` (``None`` of texts too short
            to have one), and the first sampled ``text``. All draw with the same seed.
        """
        greedy = [prefix + case.request.text for prefix in self.wordings.values()]
        sampled = [case.request.text, *case.paraphrases][:SAMPLED_PROMPTS]
        prompts = [*greedy, *sampled]
        texts = continuations_of(
            self.model, edits, self.layer, prompts,
            n_tokens=self.settings.generated_tokens,
            top_k=[1] * len(greedy) + [TOP_K] * len(sampled),
            seed=self.seed,
        )  # fmt: skip
        long_enough = self.settings.generated_tokens >= FEWEST_GENERATED.value
        written = []
        for own in texts:
            continued = own[len(greedy) :]
            written.append(
                {
                    "answers": dict(zip(self.wordings, own[: len(greedy)], strict=True)),
                    "entropy": n_gram_entropy(continued) if long_enough else None,
                    "text": sampled[0] + continued[0],
                }
            )
        return written


def entropy_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float] | None:
    """The entropy of generated texts before and after an edit; ``None`` where they are too short.

    Args:
        before: What :meth:`Bench.written` gives of the unedited model.
        after: The same of the edited one.
    """
    if before["entropy"] is None:
        return None
    return {"before": before["entropy"], "after": after["entropy"]}


def _with_generation(
    figures: Mapping[str, Any],
    wording: Wording,
    case: EditCase,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> dict[str, Any]:
    """Adds what free generation gives to what teacher forcing gave."""
    answer = after["answers"][wording]
    target = str(case.request.target_new).strip()
    efficacy = figures["efficacy"] | {
        "generated": answer,
        "generated_before": before["answers"][wording],
        "generated_success": answer.strip().startswith(target),
    }
    return {
        **figures,
        "efficacy": efficacy,
        "entropy": entropy_of(before, after),
        "text": after["text"],
    }


def _compared(before: float, after: float) -> dict[str, float | None]:
    return finite({"before": before, "after": after, "ratio": after / before})


def _unseen_prefix(model: LoadedModel, taken: Sequence[str], seed: int) -> str:
    """A prefix from another seed than the edit's, and not among them."""
    for other in range(seed + 1, seed + 11):
        (text,) = prefixes.sample(model, n=1, seed=other)
        if text not in taken:
            return text
    return "Meanwhile. "
