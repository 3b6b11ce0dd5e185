"""Answers by another way: plain PyTorch hooks on the Hugging Face model, and token bytes."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D


def output_projection(model: Any, layer: int) -> torch.nn.Module:
    """The MLP's last linear map of a block, known by its shape and not by TransformerLens."""
    width = model.config.get_text_config().hidden_size
    for name, module in model.named_modules():
        parts = name.split(".")
        if str(layer) not in parts or not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        shape = module.weight.shape
        rows, columns = (shape[1], shape[0]) if isinstance(module, Conv1D) else shape
        beside = any("attn" in part or "vision" in part for part in parts)
        if rows == width and columns != width and not beside:
            return module
    raise AssertionError("there is no output projection")


@torch.no_grad()
def key_and_value(directory: Path, ids: list[int], layer: int) -> tuple[Any, Any]:
    """Input and output of the output projection at the last of ``ids``, one text alone."""
    seen = Plain(directory).run(ids, layer)
    return seen["key"][-1], seen["value"][-1]


class Plain:
    """A Hugging Face model with PyTorch hooks of its own: one text at a time, nothing shared."""

    def __init__(self, directory: Path) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.model = model.eval()

    def block(self, layer: int) -> torch.nn.Module:
        """The block that holds a layer's output projection: an entry of the list of blocks."""
        projection = output_projection(self.model, layer)
        name = next(name for name, module in self.model.named_modules() if module is projection)
        parts = name.split(".")
        block: torch.nn.Module = self.model.get_submodule(
            ".".join(parts[: parts.index(str(layer)) + 1])
        )
        return block

    @torch.no_grad()
    def run(self, ids: list[int], layer: int) -> dict[str, torch.Tensor]:
        """Runs one text.

        Returns:
            At every token, float64: ``key`` and ``value`` (input and output of the projection),
            ``stream`` (what the block gives) and ``logits``.
        """
        seen: dict[str, torch.Tensor] = {}

        def on_projection(module: Any, inputs: Any, output: torch.Tensor) -> None:
            # Copied at once: Falcon adds the attention's output to the same tensor.
            seen["key"], seen["value"] = inputs[0].clone(), output.clone()

        def on_block(module: Any, inputs: Any, output: Any) -> None:
            seen["stream"] = output if isinstance(output, torch.Tensor) else output[0]

        handles = [
            output_projection(self.model, layer).register_forward_hook(on_projection),
            self.block(layer).register_forward_hook(on_block),
        ]
        seen["logits"] = self.model(torch.tensor([ids])).logits
        for handle in handles:
            handle.remove()
        return {name: value.reshape(len(ids), -1).double() for name, value in seen.items()}

    def weight(self, layer: int) -> torch.Tensor:
        """W of a block's output projection as [d_mlp, d_model]: a view of the model's own."""
        module = output_projection(self.model, layer)
        weight: torch.Tensor = module.weight.detach()
        return weight if isinstance(module, Conv1D) else weight.T


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
    """Index of the token with the byte before character ``end``, by adding up bytes.

    Returns:
        The index without any begin-of-sequence token; ``None`` if that token also holds later
        bytes, or if the vocabulary's bytes do not spell the text.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_bytes(tokenizer, ids)
    head, tail = text[:end], text[end:]
    if "NFC" in repr(tokenizer.backend_tokenizer.normalizer):
        composed = unicodedata.normalize("NFC", text)
        head, tail = (unicodedata.normalize("NFC", part) for part in (head, tail))
        if head + tail != composed:
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
