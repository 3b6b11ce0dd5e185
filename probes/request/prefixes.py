"""The contexts of an edit: prefixes put in front of its prompt, sampled from the model itself.

ROME averages a subject's key over the bare prompt and twenty prefixed ones so that the key stands
for the subject and not for one sentence. The published code samples them unseeded; here a seed
makes an edit repeatable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

import torch

from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

Start = Literal["end_of_text", "words"]

# What the code published with "The Fall of ROME" starts its prefixes with.
START_WORDS = ("The", "Therefore", "Because", "I", "You")
TOP_K = 5
SHORT, LONG = 5, 10  # tokens, the start included, as the published length parameters count


@torch.no_grad()
def sample(
    model: LoadedModel, *, n: int = 20, seed: int = 0, start: Start | None = None
) -> list[str]:
    """Samples prefixes as the published code does: top-5, half of 5 and half of 10 tokens.

    Args:
        model: The model that is to be edited.
        n: How many; an odd one is short.
        seed: Fixes the draw.
        start: What every prefix is continued from: the end-of-text token (ROME), which does not
            stay in the text, or a word (the paper's fork). ``None`` takes end-of-text where the
            tokenizer has one.

    Returns:
        ``n`` prefixes, each ending in ``". "``.

    Raises:
        UserError: If ``n`` is negative, or end-of-text is asked for and there is none.
    """
    if n < 0:
        raise UserError(f"--n-prefixes must be 0 or more, not {n}")
    n_short = (n + 1) // 2
    generator = torch.Generator().manual_seed(seed)
    starts = _starts(model, start)
    prefixes: list[str] = []
    for count, length in ((n_short, SHORT), (n - n_short, LONG)):
        rows = [list(starts[i % len(starts)]) for i in range(count)]
        prefixes += [_as_prefix(model, row) for row in _continue(model, rows, length, generator)]
    return prefixes


def given(texts: Sequence[str]) -> list[str]:
    """Prefixes the user wrote: as they stand, with a space behind where white space is missing.

    Args:
        texts: The prefixes.

    Returns:
        The prefixes, each ending in white space.

    Raises:
        UserError: If one is empty or not valid Unicode.
    """
    for text in texts:
        if not text.strip():
            raise UserError("a --prefix is empty: the bare prompt is always context 0")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError("a --prefix is not valid Unicode") from error
    return [text if text[-1].isspace() else text + " " for text in texts]


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


def _continue(
    model: LoadedModel, rows: list[list[int]], length: int, generator: torch.Generator
) -> list[list[int]]:
    """Continues each row by top-k sampling until it is ``length`` tokens long."""
    vocabulary = len(model.tokenizer)
    while any(len(row) < length for row in rows):
        shortest = min(len(row) for row in rows)
        growing = [row for row in rows if len(row) == shortest]
        ids = torch.tensor(growing, device=model.device)
        logits = model.bridge(ids, return_type="logits")[:, -1, :vocabulary]
        top = logits.to("cpu", torch.float64).topk(min(TOP_K, vocabulary), dim=-1)
        drawn = torch.multinomial(top.values.softmax(dim=-1), 1, generator=generator)
        for row, token in zip(growing, top.indices.gather(1, drawn)[:, 0].tolist(), strict=True):
            row.append(int(token))
    return rows


def _as_prefix(model: LoadedModel, ids: list[int]) -> str:
    text = model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return unicodedata.normalize("NFKD", text).replace("\n\n", " ") + ". "
