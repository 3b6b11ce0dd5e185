"""What became of the model after a batch: the measurements of a verification, for many edits.

The tests of :class:`diag.verify.one_edit.Bench` run the model once and re-run the blocks above the
edited one. Here the lowest edited block plays that part; the blocks above it hold their edits as
real weights while the tests run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from diag.batch.perform import PerformedBatch, performed
from diag.batch.settings import Workplace
from diag.judgement import outcome
from diag.verify.behaviour import Behaviour, Wording, pooled
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings
from probes.edited.weights import edited_layers
from probes.request.cases import EditCase
from rome_diagnosis.envelope import finite

# Behaviour is asked of at most this many edits, evenly spread: each costs a pass over its prompts.
MOST_ASKED = 200
WORDINGS: tuple[Wording, ...] = ("bare", "editing_prefix")


class BatchBench:
    """A model with everything that is measured on it, ready for batches of some edits."""

    def __init__(
        self,
        workplace: Workplace,
        cases: Sequence[EditCase],
        settings: Settings,
        *,
        bench: Bench | None = None,
    ) -> None:
        """Asks the unedited model everything that is compared later.

        Args:
            workplace: The model, and what edits it.
            cases: The edits and what tests them.
            settings: What is measured, and on what.
            bench: The bench of another batch on the same model, contexts and lowest layer, reused.

        Raises:
            UserError: If texts, facts or tests cannot be used.
        """
        self.workplace, self.cases, self.settings = workplace, tuple(cases), settings
        self.bench = bench or _bench(workplace, settings)
        step = max(1, -(-len(cases) // MOST_ASKED))
        self.asked = list(range(0, len(cases), step))
        self._behaviours = {
            i: Behaviour(workplace.model, cases[i], self.bench.wordings, workplace.layers[0])
            for i in self.asked
        }

    @contextmanager
    def perform(self) -> Iterator[PerformedBatch]:
        """Writes the batch; see :func:`diag.batch.perform.performed`."""
        with performed(self.workplace, [case.request for case in self.cases]) as batch:
            yield batch

    def measure(self, made: PerformedBatch) -> dict[str, Any]:
        """Measures the model with a batch in several blocks; it is unedited before and after.

        Args:
            made: The batch.

        Returns:
            ``perplexity``, ``recall``, ``damage_measured``, ``edits`` (each asked edit's figures),
            ``efficacy``, ``outcome`` and ``outcome_reasons``.
        """
        lowest, changes, steps = self.workplace.layers[0], made.changes, made.layers[0].update.steps
        upper = {layer: factors for layer, factors in changes.items() if layer != lowest}
        bench, own = self.bench, list(changes[lowest])
        subjects = {case.request.subject for case in self.cases}
        with edited_layers(self.workplace.model, upper):
            perplexity = bench.perplexity(own)
            recall = bench.recall.after(own, without=subjects)
            by_edit = {}
            for i, behaviour in self._behaviours.items():
                replies = behaviour.after(own)
                by_edit[i] = {word: behaviour.describe(word, replies) for word in WORDINGS}
        figures = summary([each["bare"] for each in by_edit.values()])
        prefixed = summary([each["editing_prefix"] for each in by_edit.values()])
        judged = outcome.judge(
            {"perplexity": perplexity, "recall": recall, "locality": figures["locality"]},
            collapse_ratio=self.settings.collapse_ratio,
        )
        return finite(
            {
                "perplexity": perplexity,
                "recall": recall,
                "damage_measured": bench.texts.rms_change(own, perplexity["n_tokens"]),
                "edits": [
                    {
                        "index": i,
                        "neighbours_receive": self._behaviours[i].neighbours_receive(steps),
                        "locality_lost": _lost(by_edit[i]["bare"]["locality"]),
                        **{word: of_edit(by_edit[i][word]) for word in WORDINGS},
                    }
                    for i in self.asked
                ],
                "bare": figures,
                "editing_prefix": prefixed,
                "outcome": judged.outcome,
                "outcome_reasons": list(judged.reasons),
            }
        )


def _bench(workplace: Workplace, settings: Settings) -> Bench:
    """The measurements of a verification at the lowest edited layer."""
    bench = Bench(workplace.prepared, settings, quiet=workplace.quiet)
    bench.texts.before  # noqa: B018  (all texts run through the model while it is unedited)
    return bench


def of_edit(said: Mapping[str, Any]) -> dict[str, Any]:
    """One edit's figures under one wording: efficacy, and shares where there were prompts.

    Args:
        said: What :meth:`diag.verify.behaviour.Behaviour.describe` returned.

    Returns:
        ``p_before``, ``p_after``, ``rank_after``, ``success``, ``generalisation``, ``locality``.
    """
    efficacy = said["efficacy"]
    return {
        **{name: efficacy[name] for name in ("p_before", "p_after", "rank_after", "success")},
        "generalisation": _after(said["generalisation"]),
        "locality": _after(said["locality"]),
    }


def summary(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of many edits under one wording.

    Args:
        said: What :func:`of_edit` takes, of each edit.

    Returns:
        Shares and mean probabilities before and after, and the neighbours' locality over all edits.
    """
    efficacy = [each["efficacy"] for each in said]
    return {
        "n": len(said),
        "success_before": _mean([float(e["success_before"]) for e in efficacy]),
        "success": _mean([float(e["success"]) for e in efficacy]),
        "p_before": _mean([e["p_before"] for e in efficacy]),
        "p_after": _mean([e["p_after"] for e in efficacy]),
        "generalisation": pooled([each["generalisation"] for each in said]),
        "locality": pooled([each["locality"] for each in said]),
    }


def _after(figure: Mapping[str, Any] | None) -> float | None:
    return None if figure is None else figure["after"]


def _lost(figure: Mapping[str, Any] | None) -> float | None:
    known = figure is not None and figure["before"]
    return figure["before"] - figure["after"] if figure is not None and known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
