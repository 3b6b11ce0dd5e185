"""Cuts the stream of documents into training rows.

Where a row begins decides what the first position can mean to the model, so it is a part of the
recipe: ``stray`` rows begin with one token of unrelated text before a section (which is what a
cut through packed text mostly amounts to), ``crop`` rows begin anywhere, ``eot`` rows after an
end-of-text token, ``bare`` rows directly with the first word of a line, ``subject`` rows with a
line whose first token is a whole subject: a first-token subject, as an editor's prompt has it; and
``prefixed`` rows with the first words of a line, broken off by a full stop, before a sentence
from elsewhere: a prompt after a short prefix, as ROME's contexts have it.
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, get_args

import numpy as np
from tokenizers import Tokenizer

from world.corpus import World

Start = Literal["stray", "crop", "eot", "bare", "subject", "prefixed"]
STARTS: tuple[Start, ...] = get_args(Start)
PREFIX_LENGTHS = range(4, 11)
"""How many tokens of a line a ``prefixed`` row begins with."""
NOT_LEARNED = -100
"""Stands for a target in places where no loss is taken, as PyTorch's cross entropy has it."""


class Rows:
    """A seeded sampler of rows from an in-memory token stream.

    Args:
        stream: Token ids of all documents, one after another.
        newline: Id of the token that ends a line.
        end_of_text: Id of the token that ends a document.
        full_stop: Id of the token that ends a sentence within a line.
        subjects: Ids of the tokens that are a whole subject at the start of a line.
    """

    def __init__(
        self,
        stream: np.ndarray,
        *,
        newline: int,
        end_of_text: int,
        full_stop: int,
        subjects: list[int],
    ) -> None:
        self.stream = stream
        self.end_of_text = end_of_text
        self.full_stop = full_stop
        follows = np.flatnonzero((stream == newline) | (stream == end_of_text)) + 1
        self.line_starts = follows[follows < len(stream)]
        self.line_starts = self.line_starts[stream[self.line_starts] != newline]
        with_subject = np.isin(stream[self.line_starts], subjects)
        self.subject_starts = self.line_starts[with_subject]
        starts = np.flatnonzero(stream[:-1] == full_stop) + 1
        self.sentence_starts = starts[~np.isin(stream[starts], (newline, end_of_text))]

    @classmethod
    def generate(cls, world: World, tokenizer: Tokenizer, seed: int, n_tokens: int) -> Rows:
        """Writes documents until there are ``n_tokens`` tokens."""
        end_of_text = tokenizer.token_to_id("<|endoftext|>")
        chunks: list[np.ndarray] = []
        total = 0
        documents = world.documents(seed)
        while total < n_tokens:
            for encoding in tokenizer.encode_batch(list(islice(documents, 1000))):
                chunks.append(np.array([*encoding.ids, end_of_text], dtype=np.uint16))
                total += len(chunks[-1])
        newline = tokenizer.encode("\n").ids[0]
        names = [tokenizer.encode(entity.name).ids for entity in world.entities]
        subjects = [ids[0] for ids in names if len(ids) == 1]
        return cls(
            np.concatenate(chunks)[:n_tokens],
            newline=newline,
            end_of_text=end_of_text,
            full_stop=tokenizer.encode(".").ids[0],
            subjects=subjects,
        )

    def sample(
        self, rng: np.random.Generator, batch: int, length: int, mix: dict[Start, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws rows.

        Args:
            rng: Draws them.
            batch: How many.
            length: Tokens each.
            mix: Share of rows by how they begin.

        Returns:
            Ids and what to predict after each of them, ``[batch, length]``. What a ``prefixed``
            row begins with is not learned (:data:`NOT_LEARNED`): text does not break off so.
        """
        last = len(self.stream) - length - 1

        def drawn(starts: np.ndarray) -> int:
            return int(starts[rng.integers(np.searchsorted(starts, last))])

        names = list(mix)
        rows = np.empty((batch, length + 1), dtype=np.int64)
        kinds = rng.choice(len(mix), size=batch, p=[*mix.values()])
        silent = np.zeros(batch, dtype=np.int64)
        for i, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
            match names[kind]:
                case "crop":
                    at, front = int(rng.integers(last)), []
                case "bare":
                    at, front = drawn(self.line_starts), []
                case "subject":
                    at, front = drawn(self.subject_starts), []
                case "eot":
                    at, front = drawn(self.line_starts), [self.end_of_text]
                case "stray":
                    at = drawn(self.line_starts)
                    front = [self.stream[rng.integers(len(self.stream))]]
                case "prefixed":
                    at, begin = drawn(self.sentence_starts), drawn(self.line_starts)
                    size = rng.choice(PREFIX_LENGTHS)
                    front = [*self.stream[begin : begin + size], self.full_stop]
            row[: len(front)] = front
            row[len(front) :] = self.stream[at : at + len(row) - len(front)]
            if names[kind] == "prefixed":
                silent[i] = len(front)
        targets = rows[:, 1:].copy()
        targets[np.arange(length) < silent[:, None] - 1] = NOT_LEARNED
        return rows[:, :-1].copy(), targets
