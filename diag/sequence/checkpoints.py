"""The model after a number of edits: everything that is measured, held against the limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement import outcome
from diag.mathematics.stream import Stream
from diag.verify.behaviour import Behaviour, Wording, pooled, spread
from diag.verify.one_edit import Bench, entropy_of
from probes.edited.weights import Total
from probes.request.cases import EditCase
from rome_diagnosis.envelope import finite
from rome_diagnosis.errors import UserError

MOST_ASKED = 200  # edits of a list whose efficacy and locality are measured, spread over it
WORDINGS: tuple[Wording, ...] = ("bare", "editing_prefix")


class Checkpoints:
    """Measures a model on which a list of edits is made."""

    def __init__(self, bench: Bench, cases: Sequence[EditCase], stream: Stream) -> None:
        """Asks the unedited model.

        Args:
            bench: The model and what is measured on it.
            cases: The list.
            stream: The residual stream of the edited layer.
        """
        self.bench, self.cases, self.stream = bench, cases, stream
        self._wordings = {name: bench.wordings[name] for name in WORDINGS}
        wanted = spread(range(len(cases)), MOST_ASKED)
        self._asked = dict(zip(wanted, self._behaviours(wanted), strict=True))

    @property
    def n_asked(self) -> int:
        """On how many edits efficacy and locality are measured."""
        return sum(asked is not None for asked in self._asked.values())

    def collapsed(self, change: Float[Tensor, "d_mlp d_model"]) -> bool:
        """Whether a change breaks the model, by perplexity alone."""
        arm = {"perplexity": self.bench.perplexity([Total(change)])}
        ratio = self.bench.settings.collapse_ratio
        return outcome.judge(arm, collapse_ratio=ratio).outcome == "collapsed"

    def measure(
        self, made: Sequence[int], change: Float[Tensor, "d_mlp d_model"]
    ) -> dict[str, Any]:
        """Measures the model as it is after some edits.

        Args:
            made: Places in the list of the edits that were made, in order.
            change: ΔW, all of them together.

        Returns:
            A checkpoint of a ``diag.sequence/1`` document.
        """
        bench, latest = self.bench, self.cases[made[-1]]
        total = [Total(change)]
        perplexity = bench.perplexity(total)
        answers = self._answers(made, change)
        subjects = {self.cases[i].request.subject for i in made}
        recall = bench.recall.after(total, without=subjects)
        before, after = bench.written(latest, [[], total])
        judged = outcome.judge(
            {
                "perplexity": perplexity,
                "recall": recall,
                "locality": answers["locality"],
                "entropy": entropy_of(before, after),
            },
            collapse_ratio=bench.settings.collapse_ratio,
        )
        return dict(
            finite(
                {
                    "edits": len(made),
                    "perplexity": perplexity["after"],
                    "ratio": perplexity["ratio"],
                    "ratio_interval": perplexity["ratio_interval"],
                    "efficacy": answers["latest"],
                    "efficacy_all": answers["all"],
                    "efficacy_prefixed": answers["prefixed"],
                    "generalisation": answers["generalisation"],
                    "locality": _kept(answers["locality"]),
                    "recall": None if recall is None else recall["after"],
                    **self._weights(change, perplexity["n_tokens"]),
                    "logits_finite": answers["finite"] and perplexity["after"] is not None,
                    "text": after["text"],
                    "outcome": judged.outcome,
                    "reasons": list(judged.reasons),
                    **({} if bench.tasks is None else {"tasks": bench.tasks.after(total)}),
                }
            )
        )

    def _answers(self, places: Sequence[int], change: Tensor) -> dict[str, Any]:
        """What the model says of the latest edit and of all so far."""
        asked = {i: own for i in places if (own := self._asked.get(i)) is not None}
        replies = {}
        if asked:
            together = next(iter(asked.values())).after([Total(change)])
            replies = dict.fromkeys(asked, together)
        if places[-1] not in self._asked:
            (latest,) = self._behaviours([places[-1]])
            if latest is not None:
                asked[places[-1]], replies[places[-1]] = latest, latest.after([Total(change)])
        bare, prefixed = (
            {i: own.describe(wording, replies[i]) for i, own in asked.items()}
            for wording in WORDINGS
        )
        now = bare.get(places[-1])
        read = {id(own): own for own in replies.values()}.values()
        scores = [score for own in read for reply in own for score in reply.scores]
        return {
            "latest": None if now is None else float(now["efficacy"]["success"]),
            "all": _successes(bare.values()),
            "prefixed": _successes(prefixed.values()),
            "generalisation": _kept(pooled([one["generalisation"] for one in bare.values()])),
            "locality": pooled([one["locality"] for one in bare.values()]),
            "finite": not any(math.isnan(score.probability) for score in scores),
        }

    def _weights(self, change: Tensor, n_tokens: int) -> dict[str, Any]:
        """What follows from the matrix itself."""
        stream, (weights, largest) = self.stream, self._unedited
        values = torch.linalg.svdvals(weights + change)
        predicted = stream.of_matrix(change)
        scale, measured = stream.contribution.scale, None
        if scale is not None and stream.unit is not None:
            moved = self.bench.texts.rms_change([Total(change)], n_tokens)
            measured = moved * abs(scale) / stream.unit
        smallest = float(values[-1])
        return {
            "damage_predicted": None if predicted is None else predicted.corpus,
            "damage_first_tokens": None if predicted is None else predicted.first_tokens,
            "damage_measured": measured,
            "weight_norm_ratio": float(change.norm() / weights.norm()),
            "top_singular_value": float(values[0]) / largest,
            "condition_number": float(values[0]) / smallest if smallest > 0 else None,
        }

    @cached_property
    def _unedited(self) -> tuple[Tensor, float]:
        """W, and its largest singular value."""
        weights = self.bench.model.output_weight(self.bench.layer).detach().to("cpu", torch.float64)
        return weights.clone(), float(torch.linalg.svdvals(weights)[0])

    def _behaviours(self, places: Sequence[int]) -> list[Behaviour | None]:
        """The test prompts of some edits; ``None`` for those that cannot be asked."""
        bench, cases = self.bench, [self.cases[i] for i in places]
        try:
            return list(Behaviour.of_many(bench.model, cases, self._wordings, bench.layer))
        except UserError:
            if len(places) == 1:
                return [None]
        able = [i for i in places if self._behaviours([i])[0] is not None]
        if not able:
            return [None] * len(places)
        asked = dict(zip(able, self._behaviours(able), strict=True))
        return [asked.get(i) for i in places]


def _kept(share: Mapping[str, Any] | None) -> float | None:
    return None if share is None else float(share["after"])


def _successes(described: Iterable[Mapping[str, Any]]) -> float | None:
    """Share of edits that hold."""
    values = [float(one["efficacy"]["success"]) for one in described]
    return sum(values) / len(values) if values else None
