"""The contexts of an edit: prefixes before its prompt, sampled from the model itself.

ROME averages a subject's key over the bare prompt and twenty prefixed ones so that the key stands
for the subject and not for one sentence. The published code samples them unseeded; here a seed
makes an edit repeatable. A draw depends on nothing but the weights and its settings, so it is made
once and kept, in memory and in the user's cache.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from probes.forward.engine import Engine, engine_for
from probes.forward.generate import continuations
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from rome_diagnosis import cache
from rome_diagnosis.errors import UserError

Start = Literal["end_of_text", "words"]

# What the code published with "The Fall of ROME" starts its prefixes with.
START_WORDS = ("The", "Therefore", "Because", "I", "You")
TOP_K = 5
SHORT, LONG = 5, 10  # tokens, the start included, as the published length parameters count

_drawn: dict[str, list[list[int]]] = {}


def sample(
    model: LoadedModel,
    *,
    n: int = 20,
    seed: int = 0,
    start: Start | None = None,
    lengths: tuple[int, ...] = (SHORT, LONG),
) -> list[str]:
    """Samples prefixes as the published code does: top-5, half of 5 and half of 10 tokens.

    Args:
        model: The model that is to be edited.
        n: How many; of an odd number one more is short.
        seed: Fixes the draw.
        start: What every prefix is continued from: the end-of-text token (ROME), which does not
            stay in the text, or a word (the paper's fork). ``None`` takes end-of-text where the
            tokenizer has one.
        lengths: Tokens of the prefixes, the start included, in equal parts. MEMIT samples 5 of
            :data:`LONG` tokens that start with words.

    Returns:
        ``n`` prefixes, each ending in ``". "``.

    Raises:
        UserError: If ``n`` is negative, end-of-text is asked for and there is none, or the model's
            logits are not finite.
    """
    if n < 0:
        raise UserError(f"--n-prefixes must be 0 or more, not {n}")
    starts = _starts(model, start)
    # Weights may have been edited in memory since they were loaded.
    settings = {
        "fingerprint": fingerprint(model.state_dict),
        "dtype": model.dtype,
        "vocabulary": len(model.tokenizer),
        "starts": starts,
        "top_k": TOP_K,
        "lengths": list(lengths),
        "n": n,
        "seed": seed,
    }
    name = json.dumps(settings)
    if name not in _drawn:
        rows = _kept(settings)
        if rows is None:
            rows = draw(engine_for(model), starts, n=n, seed=seed, lengths=lengths)
            texts = [_as_prefix(model, row) for row in rows]
            cache.write("prefixes", settings, {"model": model.name, "tokens": rows, "texts": texts})
        _drawn[name] = rows
    return [_as_prefix(model, row) for row in _drawn[name]]


def draw(
    engine: Engine,
    starts: Sequence[Sequence[int]],
    *,
    n: int,
    seed: int,
    lengths: Sequence[int] = (SHORT, LONG),
) -> list[list[int]]:
    """Draws the tokens of prefixes, those of all lengths in step; nothing is kept.

    Args:
        engine: Runs the model.
        starts: What prefixes begin with, in turn.
        n: How many to draw.
        seed: Fixes the draw.
        lengths: Tokens of each part, the start included; of parts that are not equal the first
            ones have one more.

    Returns:
        Token ids, starts included, the first length's prefixes first.

    Raises:
        UserError: If the model's logits are not finite.
    """
    count = len(lengths)
    parts = [
        [list(starts[i % len(starts)]) for i in range((n + count - 1 - part) // count)]
        for part in range(count)
    ]
    generators = _in_turn(parts, lengths, seed, choices=min(TOP_K, len(engine.model.tokenizer)))
    while True:
        growing: list[list[int]] = []
        steps: list[int] = []
        own: list[torch.Generator] = []
        for rows, length, generator in zip(parts, lengths, generators, strict=True):
            shortest, missing = _shortest(rows, length)
            growing += shortest
            steps += [missing] * len(shortest)
            own += [generator] * len(shortest)
        if not growing:
            return [row for rows in parts for row in rows]
        added = continuations(
            engine,
            growing,
            steps,
            top_k=TOP_K,
            generators=own,
            one_model=True,
            require_finite=True,
        )
        for row, tokens in zip(growing, added, strict=True):
            row += tokens


def given(texts: Sequence[str]) -> list[str]:
    """Prefixes that the user wrote, each with a space after it where white space is missing.

    Args:
        texts: The prefixes.

    Returns:
        The prefixes, each ending in white space.

    Raises:
        UserError: If one is empty, given twice, or not valid Unicode.
    """
    for text in texts:
        if not text.strip():
            raise UserError("a --prefix is empty: the bare prompt is always context 0")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError("a --prefix is not valid Unicode") from error
    spaced = [text if text[-1].isspace() else text + " " for text in texts]
    if len(set(spaced)) < len(spaced):
        raise UserError("a --prefix is given twice: that makes no second context")
    return spaced


def _starts(model: LoadedModel, start: Start | None) -> list[list[int]]:
    tokenizer = model.tokenizer
    # The published code writes "<|endoftext|>", which is both of GPT-2's; models that have a
    # separate begin-of-sequence token were trained to begin a text with that one.
    end_of_text = tokenizer.bos_token_id
    if end_of_text is None:
        end_of_text = tokenizer.eos_token_id
    if start is None:
        start = "words" if end_of_text is None else "end_of_text"
    if start == "words":
        return [model.tokens(word).ids for word in START_WORDS]
    if end_of_text is None:
        raise UserError(f"the tokenizer of {model.name} has no end-of-text token to start from")
    return [[int(end_of_text)]]


def _shortest(rows: Sequence[list[int]], length: int) -> tuple[list[list[int]], int]:
    """The rows that grow next, and by how many tokens: shorter starts catch up first."""
    lengths = sorted({len(row) for row in rows if len(row) < length} | {length})
    if len(lengths) == 1:
        return [], 0
    return [row for row in rows if len(row) == lengths[0]], lengths[1] - lengths[0]


def _in_turn(
    parts: Sequence[Sequence[list[int]]], lengths: Sequence[int], seed: int, *, choices: int
) -> list[torch.Generator]:
    """A generator for each part, which begins where the one before will have ended.

    So all parts grow in step, and the draws are those of one generator that serves part after part:
    how far a draw moves it depends on the number of rows and choices alone.
    """
    generator = torch.Generator().manual_seed(seed)
    every = []
    for rows, length in zip(parts, lengths, strict=True):
        own = torch.Generator()
        own.set_state(generator.get_state())
        every.append(own)
        grown = [[*row] for row in rows]
        while (step := _shortest(grown, length))[0]:
            shortest, missing = step
            even = torch.ones(len(shortest), choices, dtype=torch.float64)
            for _ in range(missing):
                torch.multinomial(even, 1, generator=generator)
            for row in shortest:
                row += [0] * missing
    return every


def _as_prefix(model: LoadedModel, ids: list[int]) -> str:
    text = model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return unicodedata.normalize("NFKD", text).replace("\n\n", " ") + ". "


def _kept(settings: Mapping[str, Any]) -> list[list[int]] | None:
    """The tokens that an earlier run kept; ``None`` if there are none, or not these."""
    kept = cache.read("prefixes", settings)
    if kept is None:
        return None
    try:
        rows = [[int(token) for token in row] for row in kept["tokens"]]
    except (ValueError, TypeError, KeyError):
        return None
    ids = range(settings["vocabulary"])
    fits = len(rows) == settings["n"] and all(token in ids for row in rows for token in row)
    return rows if fits else None
