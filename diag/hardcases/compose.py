"""New hard edits from the model's own vocabulary: subjects that are one token at the start.

A subject that begins its prompt and is one token has the same keys in every wording and with every
object, so millions of edits are screened by one pass over the subjects.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from diag.hardcases.cases import Screened
from diag.hardcases.mine import screened
from diag.hardcases.wordings import Relation
from diag.screen.shard import Screener
from probes.edited.answers import target_tokens
from probes.forward.engine import engine_for
from probes.model.loaded import LoadedModel
from probes.model.tokens import tokenise_all
from probes.request.cases import EditCase, Neighbour
from probes.request.request import SLOT, Request, request
from rome_diagnosis.errors import UserError

WORD = re.compile(r"[A-Z][a-z]{2,}")
MARKS = "Ġ▁"  # what vocabularies write for a space before a word
WITHIN = "the"
AT_ONCE = 64  # prompts whose next token is asked for together
MOSTLY = 0.5  # of the probability: such a word most often goes on with another letter
NEIGHBOURS = 5
PARAPHRASES = 3


@dataclass(frozen=True)
class Composition:
    """What was composed, and from how much.

    Attributes:
        hard: Hard edits, the most dangerous subjects first.
        n_subjects: Words that were screened.
        n_hard_subjects: Those that are hard.
        n_edits: Edits that their keys stand for: subjects × wordings × objects.
    """

    hard: list[Screened]
    n_subjects: int
    n_hard_subjects: int
    n_edits: int


def compose(
    screener: Screener,
    relations: Sequence[Relation],
    n: int,
    *,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Composition:
    """Composes hard edits.

    Args:
        screener: Measures and judges.
        relations: What subjects are edited in.
        n: At most this many.
        seed: Chooses relations, wordings and objects.
        progress: Called with the subjects screened and all of them.

    Returns:
        The edits. Each subject comes once before any comes twice, and relations take turns.

    Raises:
        UserError: If the vocabulary has no words that are one token at the start of a text.
    """
    model = screener.shared.model
    subjects = words(model)
    alone = [(EditCase(Request(word, "", " is")), "") for word in subjects]
    measured = screened(screener, alone, progress)
    hard = sorted(
        (each for each in measured if each and each.is_hard and each.row["is_first_token"]),
        key=lambda each: -each.danger,
    )
    generator = random.Random(seed)
    order = generator.sample(relations, len(relations))
    edits: list[tuple[Screened, Relation, str]] = []
    for i in range(min(n, len(hard) * len(order))):
        # The second time around, a subject meets the relation after the one it met before.
        relation = order[(i + i // len(hard)) % len(order)]
        edits.append((hard[i % len(hard)], relation, generator.choice(relation.first)))
    asked = [(each.case.request.subject, relation, wording) for each, relation, wording in edits]
    objects = _objects(model, asked, generator)
    composed = [
        Screened(_case(subject, relation, wording, chosen, generator), relation.name, each.row)
        for (subject, relation, wording), chosen, (each, _, _) in zip(
            asked, objects, edits, strict=True
        )
    ]
    pairs = sum(len(relation.first) * len(relation.objects) for relation in relations)
    return Composition(composed, len(subjects), len(hard), len(subjects) * pairs)


def words(model: LoadedModel) -> list[str]:
    """Words of the model's vocabulary that are one token, at the start of a text and within one.

    Args:
        model: The model, which also says where a word ends: after the beginning of a longer one it
            expects letters.

    Returns:
        Capitalised words of three letters or more that are no English function words, in
        alphabetical order.

    Raises:
        UserError: If there are none.
    """
    vocabulary = model.tokenizer.get_vocab()
    candidates = sorted(
        word
        for word in {entry.lstrip(MARKS) for entry in vocabulary}
        if WORD.fullmatch(word) and word.lower() not in ENGLISH_STOP_WORDS
    )
    texts = [WITHIN, *candidates, *(f"{WITHIN} {word}" for word in candidates)]
    before, *counts = (len(each.ids) for each in tokenise_all(model.tokenizer, texts, bos=False))
    alone, within = counts[: len(candidates)], counts[len(candidates) :]
    single = [
        word
        for word, n, n_within in zip(candidates, alone, within, strict=True)
        if n == 1 and n_within == before + 1
    ]
    letters = torch.tensor(
        [id_ for entry, id_ in vocabulary.items() if entry[:1].isalpha() and entry[0] not in MARKS]
    )
    complete_words: list[str] = []
    for some, logits in _next_tokens(model, [f"{WITHIN} {word}" for word in single]):
        going_on = logits.softmax(-1)[:, letters].sum(1) > MOSTLY
        complete_words += (single[i] for i, more in zip(some, going_on, strict=True) if not more)
    if not complete_words:
        raise UserError(
            f"the vocabulary of {model.name} has no words that are one token at the start of a "
            "text: mine a data set instead"
        )
    return complete_words


@torch.no_grad()
def _next_tokens(
    model: LoadedModel, prompts: Sequence[str]
) -> Iterator[tuple[range, Float[Tensor, "prompt vocabulary"]]]:
    """What the model expects after prompts, a few at a time: their places, and logits."""
    engine = engine_for(model)
    for start in range(0, len(prompts), AT_ONCE):
        some = range(start, min(start + AT_ONCE, len(prompts)))
        decoder = engine.decode([model.tokens(prompts[i]).ids for i in some])
        yield some, decoder.logits().float().cpu()


def _objects(
    model: LoadedModel, asked: Sequence[tuple[str, Relation, str]], generator: random.Random
) -> list[tuple[str, str]]:
    """For each prompt the object that the model prefers, and another one to write.

    Objects are told apart by their first token; it is the same after every subject.
    """
    first_tokens: dict[tuple[str, str], list[int]] = {}
    chosen: list[tuple[str, str]] = []
    prompts = [wording.replace(SLOT, subject) for subject, _, wording in asked]
    for some, logits in _next_tokens(model, prompts):
        for i, scores in zip(some, logits, strict=True):
            subject, relation, wording = asked[i]
            if (relation.name, wording) not in first_tokens:
                first_tokens[relation.name, wording] = [
                    target_tokens(model, prompts[i], each)[1][0] for each in relation.objects
                ]
            tokens = first_tokens[relation.name, wording]
            best = int(scores[tokens].argmax())
            true = relation.objects[best]
            others = [
                each
                for each, token in zip(relation.objects, tokens, strict=True)
                if token != tokens[best] and each != subject
            ] or [each for each in relation.objects if each != true]
            chosen.append((true, generator.choice(others)))
    return chosen


def _case(
    subject: str,
    relation: Relation,
    wording: str,
    objects: tuple[str, str],
    generator: random.Random,
) -> EditCase:
    """An edit with what tests it: other wordings, and other subjects of the relation."""
    true, new = objects
    wordings = (*relation.first, *relation.later)
    others = [each for each in wordings if each != wording]
    paraphrases = generator.sample(others, min(PARAPHRASES, len(others)))
    stated = [fact.request for fact in relation.facts if fact.request.subject != subject]
    generator.shuffle(stated)
    # Those with the same object first: ROME's neighbourhood has no others.
    stated.sort(key=lambda edit: edit.target_true != true)
    neighbourhood = [
        Neighbour(generator.choice(wordings).replace(SLOT, edit.subject), edit.target_true)
        for edit in stated[:NEIGHBOURS]
    ]
    return EditCase(
        request(subject, wording, target_new=new, target_true=true),
        paraphrases=tuple(each.replace(SLOT, subject) for each in paraphrases),
        neighbourhood=tuple(neighbourhood),
    )
