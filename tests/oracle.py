"""Answers found another way: plain PyTorch hooks on the Hugging Face model, and token bytes."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D


def output_projection(model: Any, layer: int) -> torch.nn.Module:
    """The MLP's last linear map of a block, found by its shape and not by TransformerLens."""
    width = model.config.hidden_size
    for name, module in model.named_modules():
        parts = name.split(".")
        if str(layer) not in parts or not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        is_mlp = any(part in ("mlp", "feed_forward") for part in parts)
        shape = module.weight.shape
        rows, columns = (shape[1], shape[0]) if isinstance(module, Conv1D) else shape
        if is_mlp and rows == width and columns != width:
            return module
    raise AssertionError("no output projection found")


@torch.no_grad()
def key_and_value(directory: Path, ids: list[int], layer: int) -> tuple[Any, Any]:
    """Input and output of the output projection at the last of ``ids``, one text alone."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    seen: dict[str, torch.Tensor] = {}

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen["key"], seen["value"] = inputs[0][0, -1], output[0, -1]

    handle = output_projection(model, layer).register_forward_hook(hook)
    model(torch.tensor([ids]))
    handle.remove()
    return seen["key"].double(), seen["value"].double()


def token_bytes(tokenizer: Any, ids: list[int]) -> list[bytes]:
    """The bytes that each token stands for, from the vocabulary alone."""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    if any("▁" in piece or piece.startswith("<0x") for piece in tokenizer.get_vocab()):
        return [
            bytes([int(piece[3:5], 16)])
            if piece.startswith("<0x") and piece.endswith(">")
            else piece.replace("▁", " ").encode()
            for piece in pieces
        ]
    byte_of = {letter: byte for byte, letter in _byte_letters().items()}
    return [bytes(byte_of[letter] for letter in piece) for piece in pieces]


def last_token(directory: Path, text: str, end: int) -> int | None:
    """Index of the token with the byte in front of character ``end``, by adding up bytes.

    Returns:
        The index without any begin-of-sequence token; ``None`` if that token also holds later
        bytes, or if the vocabulary's bytes do not spell the text.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_bytes(tokenizer, ids)
    head, tail = text[:end], text[end:]
    if "NFC" in repr(tokenizer.backend_tokenizer.normalizer):
        whole = unicodedata.normalize("NFC", text)
        head, tail = (unicodedata.normalize("NFC", part) for part in (head, tail))
        if head + tail != whole:
            return None
    spelled, wanted = b"".join(pieces), (head + tail).encode()
    shift = len(spelled) - len(wanted)
    if spelled != b" " * shift + wanted:
        return None
    position, target = 0, shift + len(head.encode())
    for index, piece in enumerate(pieces):
        position += len(piece)
        if position >= target:
            return index if position == target else None
    return None


def _byte_letters() -> dict[int, str]:
    """GPT-2's table: printable bytes stand for themselves, the others for letters from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in table]
    return table | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
