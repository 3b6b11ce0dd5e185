"""Texts as tokens, exactly as the plain Hugging Face tokenizer makes them.

What the published editing code calls "the first token" is decided by the plain tokenizer's
defaults about begin-of-sequence tokens; the bridge's own tokenizer prepends one even where the
plain one does not.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True)
class Tokens:
    """A tokenised text.

    Attributes:
        ids: Token ids, a begin-of-sequence token included where one is prepended.
        offsets: For each token the characters ``[start, end)`` of the text it covers; ``(0, 0)``
            for a token that covers none.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


def tokenise(tokenizer: Any, text: str, *, bos: bool) -> Tokens:
    """Tokenises a text in one piece.

    Args:
        tokenizer: The plain fast tokenizer.
        text: The text, subject and prefix in place.
        bos: Whether to prepend a begin-of-sequence token.

    Returns:
        Ids and character offsets.
    """
    return tokenise_all(tokenizer, [text], bos=bos)[0]


def tokenise_all(tokenizer: Any, texts: Sequence[str], *, bos: bool) -> list[Tokens]:
    """Tokenises each of many texts in one piece, in one call of the tokenizer.

    Args:
        tokenizer: The plain fast tokenizer.
        texts: The texts.
        bos: Whether to prepend a begin-of-sequence token to each.

    Returns:
        Ids and character offsets of each.
    """
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    front = [int(tokenizer.bos_token_id)] if bos else []
    return [
        Tokens([*front, *ids], [*([(0, 0)] * len(front)), *offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def prepends_bos(tokenizer: Any) -> bool:
    """Whether the plain tokenizer begins a text with its begin-of-sequence token by default."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def token_text(tokenizer: Any, token_id: int) -> str:
    """A token as its vocabulary writes it.

    Args:
        tokenizer: The plain tokenizer.
        token_id: The token.

    Returns:
        Its text, a leading space shown as ``␣`` and bytes that are no character by themselves as
        ``<0xE8>``.
    """
    piece = str(tokenizer.decode([token_id], clean_up_tokenization_spaces=False))
    written = str(tokenizer.convert_ids_to_tokens(token_id))
    if "\ufffd" in piece:
        piece = _bytes_text(written) or piece
    # Sentencepiece vocabularies decode "▁Apple" to "Apple": the space is only in the piece.
    if written.startswith("▁") and not piece.startswith(" "):
        piece = " " + piece
    return "␣" + piece[1:] if piece.startswith(" ") else piece


def _bytes_text(written: str) -> str | None:
    """What a vocabulary's entry spells, byte by byte where it is no text."""
    if _BYTE_PIECE.fullmatch(written):
        return written.upper().replace("X", "x")
    letters = _byte_of_letter()
    if not all(letter in letters for letter in written):
        return None
    return bytes(letters[letter] for letter in written).decode("utf-8", _NAMED_BYTES)


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes are themselves, the others letters from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }


def _name_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return "".join(f"<0x{byte:02X}>" for byte in wrong), error.end


_NAMED_BYTES = "rome_diagnosis.named_bytes"
codecs.register_error(_NAMED_BYTES, _name_bytes)
