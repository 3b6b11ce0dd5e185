"""Loading: conventions are the plain tokenizer's, and unsuitable models are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

from probes.model.bridge import from_bridge, hook_left_on, wrap
from probes.model.load import load
from probes.model.loaded import LoadedModel, describe_model
from rome_diagnosis.errors import UserError
from tests import tiny


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_tokens_and_logits_are_the_plain_model_s(
    name: str, tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    text = "Apple was founded by Steve Jobs."
    plain = transformers.AutoTokenizer.from_pretrained(tiny_dir(name))
    assert model.tokens(text).ids == plain(text)["input_ids"]
    assert model.bos == (name in ("llama", "mistral", "gemma2"))
    ids = torch.tensor([model.tokens(text).ids])
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    with torch.no_grad():
        expected, logits = other(ids).logits, model.bridge(ids, return_type="logits")
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


def test_bos_can_be_forced_or_left_out(tiny_dir: Callable[[str], Path]) -> None:
    without, forced = load(tiny_dir("gpt2")), load(tiny_dir("gpt2"), bos=True)
    assert forced.tokens("Paris").ids == [
        forced.tokenizer.bos_token_id,
        *without.tokens("Paris").ids,
    ]
    assert describe_model(forced)["bos_prepended"]
    assert load(tiny_dir("llama"), bos=False).tokens("Paris").offsets[0] != (0, 0)


def test_unknown_models_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for name, complaint in (
        ("nobody-has-this-model", "neither a directory here nor in the local cache"),
        (str(tmp_path / "absent"), "no model directory"),
        (str(tmp_path), "without a config.json"),
        (str(file), "is a file"),
        ("", "name is empty"),
        ("what is this?", "nor a valid hub name"),
    ):
        with pytest.raises(UserError, match=complaint) as refused:
            load(name)
        assert "\n" not in str(refused.value)


def test_damaged_models_and_unknown_devices_are_refused(
    tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, file, content in (
        ("config", "config.json", "{"),
        ("weights", "model.safetensors", "no"),
        ("tokenizer", "tokenizer.json", "{}"),
    ):
        broken = tmp_path / name
        shutil.copytree(tiny_dir("gpt2"), broken)
        (broken / file).write_text(content)
        with pytest.raises(UserError, match="cannot load model") as refused:
            load(broken)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="not a torch device"):
        load(tiny_dir("gpt2"), device="abacus")
    with pytest.raises(UserError, match="dtype"):
        load(tiny_dir("gpt2"), dtype="int4")  # type: ignore[arg-type]


def test_models_without_one_causal_key_are_refused(
    tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    for change, complaint in (
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "is an encoder"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"num_local_experts": 8}, "mixture of experts"),
    ):
        broken = tmp_path / complaint
        shutil.copytree(tiny_dir("gpt2"), broken)
        config = json.loads((broken / "config.json").read_text()) | change
        (broken / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=complaint):
            load(broken)


def test_folded_weights_are_refused(tiny_dir: Callable[[str], Path]) -> None:
    model = load(tiny_dir("gpt2"))
    assert from_bridge(model.bridge, model.tokenizer, name="raw").n_layers == 4
    model.bridge.enable_compatibility_mode()
    with pytest.raises(UserError, match="were folded"):
        from_bridge(model.bridge, model.tokenizer, name="folded")


def test_slow_tokenizers_are_refused(tiny_dir: Callable[[str], Path]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    with pytest.raises(UserError, match="slow one"):
        wrap(model, SimpleNamespace(is_fast=False), name="slow", path=str(tiny_dir("gpt2")))


def test_the_line_that_names_the_way_out_is_kept(
    tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, change, files, complaint in (
        (
            "own code",
            {"model_type": "new", "auto_map": {"AutoConfig": "c.C"}},
            (),
            "--trust-remote",
        ),
        ("new", {"model_type": "brandnew"}, (), "model type `brandnew`.*pip install --upgrade"),
        ("no tokenizer", {}, ("tokenizer.json",), "sentencepiece or tiktoken installed"),
        ("no weights", {}, ("model.safetensors",), "no file named model.safetensors"),
    ):
        broken = tmp_path / name
        shutil.copytree(tiny_dir("gpt2"), broken)
        config = json.loads((broken / "config.json").read_text()) | change
        (broken / "config.json").write_text(json.dumps(config))
        for file in files:
            (broken / file).unlink()
        with pytest.raises(UserError, match=complaint) as refused:
            load(broken)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 1000


def test_nothing_is_installed_while_a_model_is_loaded(
    tiny_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TransformerLens would run pip for the image processor of a multimodal model."""
    started: list[object] = []

    def refuse(*command: object, **_: object) -> None:
        started.append(command)
        raise OSError("no process is to be started")

    monkeypatch.setitem(sys.modules, "torchvision", None)
    for name in ("check_call", "run", "Popen", "check_output"):
        monkeypatch.setattr(subprocess, name, refuse)
    load(tiny_dir("gemma3-multimodal"))
    assert not started
    from transformer_lens.model_bridge.sources.transformers import helpers

    assert not helpers._ensure_torchvision()  # as the test could not see otherwise
    assert "torchvision" in str(started[0])


def test_no_embedding_is_copied_while_a_model_is_loaded(
    tiny_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TransformerLens reads every attribute of its bridge when it looks for hooks."""
    original, read = TransformerBridge.W_E_pos, []
    watched = property(lambda bridge: read.append(bridge) or original.fget(bridge))
    monkeypatch.setattr(TransformerBridge, "W_E_pos", watched)
    model = load(tiny_dir("gpt2"))
    assert not read
    assert TransformerBridge.W_E_pos is watched
    assert len(model.bridge.W_E_pos) == model.config.d_vocab + model.n_ctx


def test_hooks_that_are_left_on_are_told_from_the_librarys_own(
    tiny_dir: Callable[[str], Path],
) -> None:
    model = load(tiny_dir("opt"))  # TransformerLens sets hooks of its own on OPT
    assert hook_left_on(model.bridge) is None
    model.bridge.add_hook("blocks.1.hook_out", lambda activation, hook: activation)
    assert hook_left_on(model.bridge) == "blocks.1.hook_out"


def test_a_missing_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load(tmp_path / "nothing")
