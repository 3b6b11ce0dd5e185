"""What an edited model says: efficacy, generalisation, locality, portability, other facts' recall.

The measures are those of the published evaluation. An answer's probability is the geometric mean
over its tokens; an edit succeeds where the new object is more probable than the true one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from jaxtyping import Float
from torch import Tensor

from diag.mathematics.update import RankOne
from diag.verify.settings import digest
from probes.edited.answers import AnswerMeter, Question, Reply
from probes.edited.weights import Change
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase
from rome_diagnosis import cache

T = TypeVar("T")
Wording = Literal["bare", "editing_prefix", "unseen_prefix"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)

# Enough for a share that is known to a few per cent, few enough to be asked after each edit.
KNOWN_FACTS = 100


class Behaviour:
    """The test prompts of one edit, under several wordings, before and after the edit."""

    def __init__(
        self,
        model: LoadedModel,
        case: EditCase,
        prefixes: Mapping[Wording, str],
        layer: int,
        *,
        shared: tuple[AnswerMeter, int] | None = None,
    ) -> None:
        """Asks the unedited model.

        Args:
            model: The loaded model.
            case: The edit and the prompts that test it.
            prefixes: What each wording puts before every prompt.
            layer: The edited block.
            shared: A meter that asks these prompts among others, and where they begin; see
                :meth:`of_many`.

        Raises:
            UserError: If a prompt or an answer cannot be asked.
        """
        questions = _questions(case, prefixes)
        self._case = case
        self._wordings = list(prefixes)
        self._n = len(questions) // len(prefixes)
        self._meter, self._start = shared or (AnswerMeter(model, questions, layer), 0)

    @classmethod
    def of_many(
        cls,
        model: LoadedModel,
        cases: Sequence[EditCase],
        prefixes: Mapping[Wording, str],
        layer: int,
    ) -> list[Behaviour]:
        """The test prompts of many edits, asked together: :meth:`after` of any is that of all.

        Args:
            model: The loaded model.
            cases: The edits.
            prefixes: As for one.
            layer: The edited block.

        Returns:
            One for each edit.

        Raises:
            UserError: If a prompt or an answer of any cannot be asked.
        """
        asked = [_questions(case, prefixes) for case in cases]
        meter = AnswerMeter(model, [question for own in asked for question in own], layer)
        starts = itertools.accumulate(map(len, asked[:-1]), initial=0)
        return [
            cls(model, case, prefixes, layer, shared=(meter, start))
            for case, start in zip(cases, starts, strict=True)
        ]

    def after(self, factors: Sequence[Change]) -> list[Reply]:
        """The edited model's replies to all prompts under all wordings."""
        return self._meter.after(factors)

    def response(self, change: RankOne) -> dict[Wording, dict[str, float | None]]:
        """φ at the prompts that test an edit, known before it is made.

        Args:
            change: The edit.

        Returns:
            By wording ``paraphrases`` and ``neighbours``: over such prompts the median of the
            largest φ, in size, that a token of the prompt receives; ``None`` without any.
        """
        shares = self._meter.response(change.u[None] / change.denominator)[:, 0].tolist()
        by_wording: dict[Wording, dict[str, float | None]] = {}
        for i, wording in enumerate(self._wordings):
            start = self._start + i * self._n + 1
            end = start + len(self._case.paraphrases)
            by_wording[wording] = {
                "paraphrases": _median(shares[start:end]),
                "neighbours": _median(shares[end : end + len(self._case.neighbourhood)]),
            }
        return by_wording

    def neighbours_receive(self, steps: Float[Tensor, "m d_mlp"]) -> float | None:
        """What the neighbours' bare prompts receive of a batch, known before it is made.

        Args:
            steps: A row w for each edit of the batch, φ(q) = w·q.

        Returns:
            The median over the prompts of √Σφ² over the edits, at the token that receives most;
            ``None`` without such prompts.
        """
        start = self._start + self._wordings.index("bare") * self._n + 1
        start += len(self._case.paraphrases)
        shares = self._meter.response(steps).norm(dim=1)
        return _median(shares[start : start + len(self._case.neighbourhood)].tolist())

    def describe(self, wording: Wording, replies: Sequence[Reply]) -> dict[str, Any]:
        """The figures under one wording, beside those of the unedited model.

        Args:
            wording: The wording of the test prompts: bare, or after a prefix.
            replies: What :meth:`after` returned.

        Returns:
            ``efficacy``, ``generalisation``, ``locality`` and ``portability``; the latter three are
            ``None`` for edits that come without such prompts.
        """
        start = self._start + self._wordings.index(wording) * self._n
        old, new = self._meter.before[start : start + self._n], replies[start : start + self._n]
        split = 1 + len(self._case.paraphrases)
        end = split + len(self._case.neighbourhood)
        known = self._case.request.target_true is not None
        return {
            "efficacy": {
                "p_before": old[0].scores[0].probability,
                "p_after": new[0].scores[0].probability,
                "p_true_before": old[0].scores[1].probability if known else None,
                "p_true_after": new[0].scores[1].probability if known else None,
                "rank_before": old[0].scores[0].rank,
                "rank_after": new[0].scores[0].rank,
                "top1": new[0].scores[0].greedy,
                "success_before": _success(old[0], known),
                "success": _success(new[0], known),
                "criterion": "P(new) > P(true)" if known else "greedy decoding gives it",
            },
            "generalisation": _successes(old[1:split], new[1:split], known),
            "locality": _locality(old[split:end], new[split:end]),
            # Their answers follow from the new fact: there is no other to compare them with.
            "portability": _successes(old[end:], new[end:], False),
        }


class Recall:
    """Facts that the unedited model knows, asked again after each edit."""

    def __init__(
        self,
        model: LoadedModel,
        cases: Sequence[EditCase],
        layer: int,
        *,
        limit: int | None = None,
    ) -> None:
        """Finds facts the model knows: those whose true object greedy decoding gives.

        Args:
            model: The loaded model.
            cases: Candidates, of which four times ``limit`` are tried; their wordings take turns.
            layer: The edited block.
            limit: At most N facts; :data:`KNOWN_FACTS` if ``None``.
        """
        limit = KNOWN_FACTS if limit is None else limit
        facts = [case for case in cases if case.request.target_true is not None]
        tried = spread(facts, 4 * limit)
        questions = []
        for i, case in enumerate(tried):
            wordings = (case.request.text, *case.paraphrases)
            wording = wordings[i % len(wordings)]
            questions.append(Question(wording, (str(case.request.target_true),)))
        known = spread(_known(model, questions, layer), limit)
        self._subjects = [tried[i].request.subject for i in known]
        self.tried = len(tried)
        self._meter = AnswerMeter(model, [questions[i] for i in known], layer)

    @property
    def n(self) -> int:
        """How many facts the model knows of those that were tried."""
        return len(self._subjects)

    def after(
        self, factors: Sequence[Change], *, without: str | Collection[str]
    ) -> dict[str, Any] | None:
        """Share of the facts that the edited model still gives.

        Args:
            factors: The edit.
            without: The edited subject or subjects, whose facts are left out.

        Returns:
            ``before`` (1 by choice of the facts), ``after`` and ``n``; ``None`` without facts.
        """
        edited = {without} if isinstance(without, str) else set(without)
        others = [i for i, subject in enumerate(self._subjects) if subject not in edited]
        if not others:
            return None
        replies = self._meter.after(factors)
        return {
            "before": _share(self._meter.before[i].scores[0].greedy for i in others),
            "after": _share(replies[i].scores[0].greedy for i in others),
            "n": len(others),
        }


def pooled(shares: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Shares of several edits' prompts, over all of these prompts.

    Args:
        shares: For each edit ``before``, ``after`` and ``n``; ``None`` where it has no such prompt.

    Returns:
        The same over all; ``None`` without prompts.
    """
    known = [
        one
        for one in shares
        if one is not None and one["before"] is not None and one["after"] is not None
    ]
    n = sum(one["n"] for one in known)
    if not n:
        return None
    return {
        "n": n,
        **{when: sum(one[when] * one["n"] for one in known) / n for when in ("before", "after")},
    }


def _known(model: LoadedModel, questions: Sequence[Question], layer: int) -> list[int]:
    """Which questions the model answers rightly; asked once for the same weights."""
    settings = {
        "fingerprint": fingerprint(model.state_dict),
        "dtype": model.dtype,
        "bos": model.bos,
        "questions": digest([[question.prompt, *question.answers] for question in questions]),
    }
    kept = cache.read("known-facts", settings)
    indices = range(len(questions))
    known = None if kept is None else kept.get("known")
    if isinstance(known, list) and all(type(i) is int and i in indices for i in known):
        return known
    replies = AnswerMeter(model, questions, layer).before
    known = [i for i in indices if replies[i].scores[0].greedy]
    cache.write("known-facts", settings, {"model": model.name, "known": known})
    return known


def _questions(case: EditCase, prefixes: Mapping[Wording, str]) -> list[Question]:
    """What tests an edit, under every wording in turn."""
    edit = case.request
    new = str(edit.target_new)
    answers = (new,) if edit.target_true is None else (new, edit.target_true)
    questions = []
    for prefix in prefixes.values():
        questions += [Question(prefix + text, answers) for text in (edit.text, *case.paraphrases)]
        for neighbour in case.neighbourhood:
            held = () if neighbour.answer is None else (neighbour.answer,)
            questions.append(Question(prefix + neighbour.prompt, (new, *held)))
        questions += [
            Question(prefix + test.prompt, (test.answer,))
            for test in case.portability
            if test.answer is not None
        ]
    return questions


def spread(items: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of some items, evenly spread."""
    if len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def _locality(old: Sequence[Reply], new: Sequence[Reply]) -> dict[str, Any] | None:
    if not old:
        return None
    before, after = (
        _share(reply.scores[1].probability > reply.scores[0].probability for reply in replies)
        if all(len(reply.scores) > 1 for reply in replies)
        else None
        for replies in (old, new)
    )
    return {
        "before": before,
        "after": after,
        "unchanged": _share(a.top == b.top for a, b in zip(old, new, strict=True)),
        "n": len(old),
    }


def _successes(old: Sequence[Reply], new: Sequence[Reply], known: bool) -> dict[str, Any] | None:
    """Share of prompts that succeed, before and after."""
    if not old:
        return None
    before, after = (_share(_success(reply, known) for reply in replies) for replies in (old, new))
    return {"before": before, "after": after, "n": len(old)}


def _success(reply: Reply, known: bool) -> bool:
    if known:
        return reply.scores[0].probability > reply.scores[1].probability
    return reply.scores[0].greedy


def _median(shares: Sequence[float]) -> float | None:
    return statistics.median(map(abs, shares)) if shares else None


def _share(values: Iterable[bool]) -> float:
    flags = list(values)
    return sum(flags) / len(flags)
