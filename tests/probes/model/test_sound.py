"""Weights that are not all there, not finite, or not the configuration's, are named and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from probes.model.bridge import wrap
from probes.model.load import load
from rome_diagnosis.errors import UserError

Change = Callable[[dict[str, torch.Tensor]], Any]
OUT = "transformer.h.1.mlp.c_proj.weight"


def changed(original: Path, to: Path, change: Change, **config: Any) -> Path:
    """A copy of a model directory with other weights and another configuration."""
    shutil.copytree(original, to)
    weights = load_file(to / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    known = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(known | config))
    return to


def nothing(weights: dict[str, torch.Tensor]) -> None:
    """Leaves the weights as they are."""


@pytest.mark.parametrize(
    ("change", "config", "complaint"),
    [
        (lambda w: w.pop(OUT), {}, f"lack {OUT}:"),
        (
            lambda w: [w.pop(key) for key in list(w) if ".h.1." in key],
            {},
            r"lack transformer\.h\.1\.attn\.c_attn\.bias, .* and 9 others",
        ),
        (lambda w: w.pop("transformer.h.1.ln_1.weight"), {}, r"lack transformer\.h\.1\.ln_1"),
        (lambda w: w.pop("transformer.wte.weight"), {}, r"lack lm_head\.weight, transformer\.wte"),
        (nothing, {"n_layer": 8}, r"lack transformer\.h\.4\.attn"),
        (nothing, {"n_layer": 3}, r"hold unexpected transformer\.h\.3\.attn"),
        (lambda w: w.update(foo=torch.zeros(2)), {}, "hold unexpected foo:"),
        (
            lambda w: w.update({OUT: torch.zeros(3, 5)}),
            {},
            f"{OUT} has shape 3×5 where 128×32 is expected",
        ),
        (lambda w: w[OUT].view(-1)[77:79].fill_(torch.nan), {}, f"{OUT} holds 2 values that are"),
        (
            lambda w: w["transformer.h.3.mlp.c_proj.weight"].view(-1)[7].fill_(torch.inf),
            {},
            r"transformer\.h\.3\.mlp\.c_proj\.weight holds 1 value that is not finite",
        ),
        (
            lambda w: w.update({"lm_head.weight": torch.randn(700, 32)}),
            {},
            "says that its unembedding is its embedding",
        ),
    ],
)
def test_refused_by_name(
    change: Change,
    config: dict[str, Any],
    complaint: str,
    tmp_path: Path,
    tiny_dir: Callable[[str], Path],
) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        load(changed(tiny_dir("gpt2"), tmp_path / "m", change, **config), name="mine")
    assert "\n" not in str(refused.value)
    assert "mine" in str(refused.value)


def test_the_unembedding_of_a_model_that_has_one(
    tmp_path: Path, tiny_dir: Callable[[str], Path]
) -> None:
    def poisoned(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"][5, 5] = torch.nan

    for name, change, complaint in (
        ("dropped", lambda w: w.pop("lm_head.weight"), r"lack lm_head\.weight"),
        ("poisoned", poisoned, r"lm_head\.weight holds 1 value"),
    ):
        with pytest.raises(UserError, match=complaint):
            load(changed(tiny_dir("llama"), tmp_path / name, change))


def test_what_is_no_fault_is_accepted(tmp_path: Path, tiny_dir: Callable[[str], Path]) -> None:
    def as_base_model(weights: dict[str, torch.Tensor]) -> None:
        """The names GPT-2 was first published with, and the buffers it was published with."""
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        weights["h.1.attn.bias"] = torch.ones(1, 1, 128, 128).tril()
        weights["h.1.attn.masked_bias"] = torch.tensor(-1e4)

    def tied_twice(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()

    expected = load(tiny_dir("gpt2")).fingerprint
    for name, change in (("base", as_base_model), ("tied", tied_twice), ("same", nothing)):
        assert load(changed(tiny_dir("gpt2"), tmp_path / name, change)).fingerprint == expected


def test_logits_that_overflow_their_type_are_refused(
    tmp_path: Path, tiny_dir: Callable[[str], Path]
) -> None:
    def large(weights: dict[str, torch.Tensor]) -> None:
        weights["transformer.ln_f.weight"].fill_(6e4)

    folder = changed(tiny_dir("gpt2"), tmp_path / "m", large)
    with pytest.raises(UserError, match="not finite in float16: load it with --dtype float32"):
        load(folder, dtype="float16")
    assert load(folder).dtype == "float32"


def test_a_model_in_memory_is_examined_too(tiny_dir: Callable[[str], Path]) -> None:
    path = tiny_dir("gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        model.transformer.h[3].mlp.c_proj.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"h\.3\.mlp\.c_proj\.weight holds 1 value"):
        wrap(model, tokenizer, name="mine", path=str(path))
