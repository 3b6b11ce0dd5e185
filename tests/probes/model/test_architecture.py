"""Layouts and published layers: one table, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers

from probes.model import architecture
from probes.model.loaded import LoadedModel
from tests import tiny


@pytest.mark.parametrize(
    ("name", "n_layers", "expected"),
    [
        ("openai-community/gpt2-xl", 48, 17),
        ("gpt2-xl", 48, 17),
        ("/models/GPT2-XL/", 48, 17),
        ("gpt2-xl", 12, None),  # a pruned one is another model
        ("EleutherAI/gpt-j-6B", 28, 5),
        ("EleutherAI/gpt-neox-20b", 44, 15),
        ("meta-llama/Llama-2-7b-chat-hf", 32, 5),
        ("huggyllama/llama-7b", 32, 5),
        ("llama-7b", 32, 5),
        ("decapoda-research/llama-7b-hf", 32, 5),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 32, 5),
        ("meta-llama/Llama-3.1-8B", 32, 5),
        ("mistralai/Mistral-7B-Instruct-v0.2", 32, 5),
        ("Qwen/Qwen2.5-7B-Instruct", 28, 5),
        ("gpt2", 12, None),
        ("my-llama-7b-finetune", 32, None),
        ("", 32, None),
        (
            "/home/me/.cache/huggingface/hub/models--openai-community--gpt2-xl/snapshots/15ea56dee"
            "5df4983c59b2538573817e1667135e2",
            48,
            17,
        ),
        ("C:\\models\\models--meta-llama--Llama-2-7b-hf\\snapshots\\0123", 32, 5),
    ],
)
def test_published_edit_layers(name: str, n_layers: int, expected: int | None) -> None:
    assert architecture.published_edit_layer([name], n_layers) == expected


def test_the_default_layer_is_the_published_one_by_any_name_of_the_model(
    tiny_model: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    model = tiny_model("gpt2")
    assert model.default_layer() == 1  # a quarter up
    deep = SimpleNamespace(cfg=SimpleNamespace(n_layers=48))
    named = replace(model, name="gpt2-xl", path="/somewhere", bridge=deep)
    assert named.default_layer() == 17
    (tmp_path / "config.json").write_text('{"_name_or_path": "openai-community/gpt2-xl"}')
    assert replace(named, name="mine", path=str(tmp_path)).default_layer() == 17
    assert replace(named, name="mine").default_layer() == 12


@pytest.mark.parametrize(("n_layers", "layer"), [(1, 0), (2, 1), (6, 2), (28, 7), (30, 8)])
def test_a_model_that_nobody_edited_is_edited_a_quarter_up(n_layers: int, layer: int) -> None:
    assert architecture.unpublished_edit_layer(n_layers) == layer
    shares = [at / blocks for _, blocks, at in architecture.PUBLISHED_EDIT_LAYERS]
    assert min(shares) < architecture.UNPUBLISHED_DEPTH < max(shares)


def test_every_layout_names_what_its_blocks_have() -> None:
    """A row that names a missing norm or factor would fail only when such a model is loaded."""
    rows = 0
    for make in (tiny.ARCHITECTURES | tiny.SUPPORTED).values():
        config = make()
        row = architecture.layout(config)
        if row == architecture.Layout():
            continue
        rows += 1
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        assert row.norm is None or row.norm in names
        assert row.config_factor is None or hasattr(config, row.config_factor)
    assert rows >= 8


@pytest.mark.parametrize("name", ["cohere", "cohere2", "granite", "gemma2", "nanochat", "llama"])
def test_logits_are_finished_as_the_model_does_it(
    name: str, tiny_dir: Callable[[str], Path]
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    seen = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7]])).logits
    handle.remove()
    torch.testing.assert_close(architecture.finish_logits(model.config, seen[0]), logits)
    assert (name == "llama") == torch.equal(seen[0], logits)


def test_the_width_of_keys_is_the_weight_s(tiny_model: Callable[[str], LoadedModel]) -> None:
    """OPT's configuration has ``ffn_dim``, which TransformerLens takes for 4·d."""
    for name in ("opt", "xglm"):
        model = tiny_model(name)
        assert model.config.d_mlp == 40 != 4 * model.config.d_model
        assert model.output_weight(1).shape == (40, 16)
