"""Architectures that cannot be measured are refused by name, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from probes.model.load import load
from rome_diagnosis.errors import UserError
from tests import tiny

REASONS = {
    "biogpt": r"does not know the architecture of tiny-biogpt \(BioGptForCausalLM\)",
    "falcon-alibi": r"computes other logits for tiny-falcon-alibi \(FalconForCausalLM\)",
    "falcon-grouped": r"cannot wrap tiny-falcon-grouped \(FalconForCausalLM\)",
    "lfm2": r"block 0 of tiny-lfm2 \(Lfm2ForCausalLM\) has no softmax attention",
    "mamba": r"block 0 of tiny-mamba \(MambaForCausalLM\) has no single MLP output projection",
    "mixtral": "tiny-mixtral is a mixture of experts",
    "openai-gpt": r"computes other logits for tiny-openai-gpt \(OpenAIGPTLMHeadModel\)",
    "recurrent-gemma": r"block 0 of tiny-recurrent-gemma \(RecurrentGemmaForCausalLM\)",
}


@pytest.mark.parametrize("name", tiny.REFUSED)
def test_refusals_name_the_architecture_and_the_reason(
    name: str, tiny_dir: Callable[[str], Path]
) -> None:
    with pytest.raises(UserError, match=REASONS[name]) as refused:
        load(tiny_dir(name), name=f"tiny-{name}")
    assert "\n" not in str(refused.value)
