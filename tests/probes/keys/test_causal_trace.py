"""Causal tracing: exact where everything is restored, and against plain hooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from probes.edited.answers import target_tokens
from probes.keys import causal_trace
from probes.keys.causal_trace import Fact, known, trace
from probes.model.adopt import adopt
from probes.model.loaded import LoadedModel
from probes.request.request import request
from rome_diagnosis.errors import UserError

FACTS = [Fact([5, 6, 7, 8], (1, 2), 9), Fact([9, 6, 7], (0, 0), 4)]


def test_it_is_what_plain_hooks_give(
    tiny_dir: Callable[[str], Path],
    tiny_model: Callable[[str], LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without noise nothing is lost; with it, every window is restored by hand."""
    monkeypatch.setattr(causal_trace, "WINDOW", 2)  # two of the four blocks
    model = tiny_model("llama")
    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_dir("llama")).eval()
    fact = FACTS[0]
    found = trace(model, [fact], seed=3)
    assert found.window == 2

    embedded = plain.model.embed_tokens(torch.tensor([fact.ids])).detach()
    size = causal_trace.NOISE * float(embedded[0, 1:3].double().std())
    noise = torch.randn(2, 32, generator=torch.Generator().manual_seed(3)) * size
    noisy = embedded.clone()
    noisy[0, 1:3] += noise
    outputs: list[torch.Tensor] = []
    handles = [layer.mlp.down_proj.register_forward_hook(lambda m, i, o: outputs.append(o))
               for layer in plain.model.layers]  # fmt: skip

    def answer(embeddings: torch.Tensor) -> float:
        with torch.no_grad():
            logits = plain(inputs_embeds=embeddings).logits[0, -1]
        return float(logits.double().softmax(-1)[fact.answer])

    assert answer(embedded) == pytest.approx(float(found.clean[0]), rel=1e-5)
    for handle in handles:
        handle.remove()
    assert answer(noisy) == pytest.approx(float(found.noisy[0]), rel=1e-5)
    assert abs(found.clean - found.noisy) > 1e-6 * found.clean
    for centre in range(4):
        blocks = [b for b in range(centre - 1, centre + 1) if 0 <= b < 4]

        def put_back(block: int) -> Callable[..., torch.Tensor]:
            def hook(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
                return torch.cat([output[:, :2], outputs[block][:, 2:3], output[:, 3:]], dim=1)

            return hook

        handles = [plain.model.layers[b].mlp.down_proj.register_forward_hook(put_back(b))
                   for b in blocks]  # fmt: skip
        assert answer(noisy) == pytest.approx(float(found.restored[0, centre]), rel=1e-5)
        for handle in handles:
            handle.remove()


def test_a_lookup_that_was_planted_is_found(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    """One block's MLP alone reaches the answer: the window around it restores most."""
    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    with torch.no_grad():
        for i, block in enumerate(plain.transformer.h):
            block.mlp.c_proj.weight.mul_(50.0 if i == 2 else 0.0)
            block.mlp.c_proj.bias.zero_()
    model = adopt(plain, AutoTokenizer.from_pretrained(tiny_dir("gpt2")))
    answer = int(model.bridge(torch.tensor([[9, 6, 7]]), return_type="logits")[0, -1].argmax())
    found = trace(model, [Fact([9, 6, 7], (2, 2), answer)])
    assert found.layer == 2
    assert float(found.effect[2]) > 0.5
    untouched = [block for block in range(model.n_layers) if block != 2]
    assert found.effect[untouched].abs().max() < 1e-6


def test_only_facts_the_model_gives_are_known(tiny_dir: Callable[[str], Path]) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_dir("llama"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_dir("llama"))
    before = adopt(plain, tokenizer)
    facts = [request("Seine", "The {} is in", target_true=true) for true in ("Paris", "Seattle")]
    prompt, (paris, *_) = target_tokens(before, facts[0].text, "Paris")
    with torch.no_grad():  # an unembedding that answers Paris after this prompt
        stream = plain.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        plain.lm_head.weight[paris] = 10 * stream
    (only,) = known(adopt(plain, tokenizer), facts)
    assert only.answer == paris
    assert [tokenizer.decode(only.ids[i]).strip() for i in only.subject][-1] in "Seine"
    with pytest.raises(UserError, match="nothing to trace"):
        trace(before, [])
