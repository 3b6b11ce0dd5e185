"""Tokens as they are shown: leading spaces, and bytes that are no character by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probes.model.loaded import LoadedModel
from tests import oracle


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_bytes_are_shown_as_bytes(name: str, tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model(name)
    ids = model.tokenizer("Paris 語\ufffd", add_special_tokens=False)["input_ids"]
    shown = [model.token_text(token) for token in ids]
    spelled = b"".join(oracle.token_bytes(model.tokenizer, ids))
    for byte in "語".encode():
        assert f"<0x{byte:02X}>" in shown
        assert bytes([byte]) in spelled
    assert "�" not in "".join(shown[:-3])
    assert any(text.startswith("␣") or text == "Paris" for text in shown)


def test_a_character_stays_a_character(tiny_model: Callable[[str], LoadedModel]) -> None:
    tokenizer = tiny_model("gpt2").tokenizer
    for word in ("Apple", " Apple", "é", "\n"):
        ids = tokenizer(word)["input_ids"]
        text = "".join(tiny_model("gpt2").token_text(token) for token in ids)
        expected = "␣" + word[1:] if word.startswith(" ") else word
        assert text == expected or "<0x" in text
