"""What the matrix of architectures has in common: one edit, its contexts, a corpus, its oracle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from probes.model.loaded import LoadedModel
from probes.request.request import request
from probes.second_moment.estimate import estimate
from probes.second_moment.moment import SecondMoment
from probes.text.corpus import Corpus, rows
from tests import oracle, tiny

LAYER = 1
ROW = 40  # tokens in a row of the corpus: more than blocks with local attention see
EDIT = request("Apple", "{} was founded by", target_new="Paris")
# The second is longer than blocks with local attention see.
PREFIXES = (
    "The weather was fine. ",
    "They read that the mother tongue of Danielle Darrieux is French, and that Paris lies on the "
    "Seine in California because the Space Needle was founded by them. ",
    "Paris. ",
)
SHORT = (
    "The weather was fine. ",
    "Paris. ",
)  # with the prompt, no longer than local attention sees
TEXTS = tuple(tiny.TRAINING_TEXT[:4])
CORPUS = Corpus.of("four sentences", TEXTS * 3)


@dataclass(frozen=True)
class Case:
    """One architecture, loaded by the toolkit and, beside it, as plain Hugging Face does.

    Attributes:
        model: As the toolkit loads it.
        directory: Where its files are.
    """

    model: LoadedModel
    directory: Path

    @cached_property
    def plain(self) -> oracle.Plain:
        """The Hugging Face model; never edited."""
        return oracle.Plain(self.directory)

    @cached_property
    def moment(self) -> SecondMoment:
        """C as the toolkit estimates it."""
        return estimate(self.model, LAYER, CORPUS, row_length=ROW)

    @cached_property
    def rows(self) -> list[list[int]]:
        """The corpus' rows of tokens."""
        return list(rows(self.model, CORPUS, length=ROW))

    @cached_property
    def corpus_and_first_tokens(self) -> list[list[int]]:
        """The corpus' rows, and the first tokens of its documents alone."""
        return self.rows + [self.model.tokens(text).ids[:1] for text in TEXTS]

    @staticmethod
    def run(plain: oracle.Plain, texts: list[list[int]]) -> dict[str, torch.Tensor]:
        """What a plain model has at every token of texts, and which are the first of theirs."""
        seen = [plain.run(ids, LAYER) for ids in texts]
        joined = {name: torch.cat([one[name] for one in seen]) for name in seen[0]}
        first = [i == 0 for ids in texts for i in range(len(ids))]
        return joined | {"first": torch.tensor(first)}

    @cached_property
    def corpus(self) -> dict[str, torch.Tensor]:
        """What the plain model has at every token of the corpus."""
        return self.run(self.plain, self.rows)

    @cached_property
    def contexts(self) -> list[list[int]]:
        """Token ids of every context up to the subject's last token, which bytes tell."""
        contexts = []
        for prefix in ("", *PREFIXES):
            end = len(prefix) + len(EDIT.subject)
            last = oracle.last_token(self.directory, prefix + EDIT.text, end)
            assert last is not None
            ids = self.model.tokenizer(prefix + EDIT.text)["input_ids"]
            contexts.append(ids[: last + 1 + int(self.model.bos)])
        return contexts

    @cached_property
    def keys(self) -> torch.Tensor:
        """The plain model's keys in contexts 0…n."""
        return torch.stack([self.plain.run(ids, LAYER)["key"][-1] for ids in self.contexts])
