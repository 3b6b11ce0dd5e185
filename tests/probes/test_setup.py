"""One setup for every call: each way to name a model measures the same, and none changes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from diag.keys import command, diagnose
from probes import bundled
from probes.forward.engine import engine_for
from probes.forward.gpt2.engine import GPT2
from probes.forward.unhooked import Unhooked
from probes.model import remembered
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.setup import Setup, load_model
from rome_diagnosis import options
from rome_diagnosis.errors import UserError

COMMON: dict[str, Any] = {"layer": 1, "prefixes": ["They read that"], "second_moment": "identity"}


@pytest.fixture(autouse=True)
def _forget() -> None:
    remembered.forget()


def plain(directory: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory)


def ways(directory: Path) -> dict[str, dict[str, Any]]:
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    nameless = plain(directory)
    nameless.name_or_path = nameless.config._name_or_path = ""
    return {
        "name": {"model": str(directory)},
        "path": {"model": directory},
        "loaded": {"model": load(directory)},
        "transformers": {"model": plain(directory)},
        "nameless": {"model": nameless, "tokenizer": tokenizer},
        "bridge": {"model": TransformerBridge.boot_transformers(str(directory))},
    }


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_way_to_name_a_model_measures_the_same(
    name: str, tiny_dir: Callable[[str], Path]
) -> None:
    results = {
        way: diagnose("Apple", "{} was", **given, **COMMON)
        for way, given in ways(tiny_dir(name)).items()
    }
    expected = results.pop("name")
    other = diagnose("Paris", "{} was", model=tiny_dir(name), **COMMON)
    assert not torch.equal(other.keys, expected.keys)  # the control
    for way, result in results.items():
        assert torch.equal(result.keys, expected.keys), way
        assert result.denominators == expected.denominators, way
        bos = result.document["model"]["bos_prepended"]
        assert bos == expected.document["model"]["bos_prepended"], way
        if way != "bridge":  # whose parameters have names of its own
            assert (
                result.document["model"]["fingerprint"]
                == (expected.document["model"]["fingerprint"])
            )


def test_the_bundled_model_is_known_by_its_weights() -> None:
    setup = Setup(model=plain(bundled.model_path()))
    model = setup.load()
    assert model.name != "bundled"
    assert setup.choose_layer(model) == bundled.edit_layer() != model.default_layer()


def test_a_transformers_model_is_left_as_it_was(tiny_dir: Callable[[str], Path]) -> None:
    model = plain(tiny_dir("gpt2")).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    modules = [(name, type(module)) for name, module in model.named_modules()]
    loaded = load_model(model)
    assert [(name, type(module)) for name, module in model.named_modules()] == modules
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert list(model.state_dict()) == list(before)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
        assert weight.data_ptr() == loaded.state_dict[name].data_ptr()  # no second copy in memory


def test_a_model_named_twice_is_loaded_once_while_it_is_the_same(
    tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    for file in tiny_dir("gpt2").iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    first = Setup(model=directory).load()
    assert Setup(model=str(directory), layer=2, seed=4).load() is first
    assert Setup(model=directory, dtype="float64").load() is not first
    assert Setup(model=directory, bos=True).load().bos

    weights = directory / "model.safetensors"
    second = Setup(model=directory).load()
    tensors = load_file(weights)
    tensors["transformer.h.1.mlp.c_proj.weight"] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    third = Setup(model=directory).load()
    assert third.fingerprint != second.fingerprint

    with torch.no_grad():
        third.state_dict["transformer.h.1.mlp.c_proj.weight"].add_(1)
    assert Setup(model=directory).load() is not third  # its weights are not the files' any more
    os.utime(weights, ns=(1, 1))
    fourth = Setup(model=directory).load()
    assert fourth is not third
    assert load_model(directory) is not fourth
    assert not remembered._last  # what is handed out is nobody else's


def test_one_model_is_kept_at_most(tiny_dir: Callable[[str], Path]) -> None:
    for name in ("gpt2", "llama", "gpt2"):
        Setup(model=tiny_dir(name)).load()
        assert len(remembered._last) == 1


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**64}, "seed must be from 0"),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"layer": 1.0}, "layer must be a whole number"),
        ({"layer": True}, "layer must be a whole number"),
        ({"n_prefixes": -1}, "number of prefixes must be from 0 to 10000"),
        ({"n_prefixes": 10**9}, "number of prefixes must be from 0 to 10000"),
        ({"prefixes": "They read that"}, "must be a list of texts"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(
    given: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        Setup(model="nobody-has-this-model", **given)


def test_what_a_model_in_memory_contradicts_is_refused(tiny_dir: Callable[[str], Path]) -> None:
    model = plain(tiny_dir("gpt2"))
    for given, complaint in (
        ({"model": 3}, "a model cannot be int"),
        ({"model": model, "dtype": "float16"}, "has float32"),
        ({"model": model, "device": "cuda"}, "has cpu"),
        ({"model": model, "layer": 99}, "layer 99 is out of range"),
    ):
        with pytest.raises(UserError, match=complaint):
            Setup(**{"second_moment": "identity", **given}).prepare()
    model.name_or_path = ""
    with pytest.raises(UserError, match="tokenizer=…"):
        Setup(model=model).load()
    with pytest.raises(TypeError, match="layers"):
        Setup(layers=[1])  # type: ignore[call-arg]
    # A name that looks like an option is a name.
    with pytest.raises(UserError, match="--fast"):
        diagnose("Apple", model="--fast")


def test_a_loaded_model_can_be_asked_for_another_convention(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("llama")
    other = Setup(model=model, bos=not model.bos).load()
    assert other.bos is not model.bos
    assert other.bridge is model.bridge
    assert Setup(model=model, bos=model.bos).load() is model


def test_the_bundled_model_is_edited_where_its_card_says() -> None:
    model = load_model()
    assert Setup().choose_layer(model) == bundled.edit_layer()
    assert Setup(layer=0).choose_layer(model) == 0


def test_options_become_the_setup_that_python_would_make() -> None:
    from diag.keys.command import build_parser

    words = ["--subject=A", "--model=m", "--layer=3", "--prefix=x", "--prefix=y", "--seed=5"]
    words += ["--second-moment=c", "--device=cpu", "--dtype=float64", "--no-bos", "--quiet"]
    words += ["--n-prefixes=4", "--trust-remote-code"]
    made = options.setup(build_parser().parse_args(words))
    expected = Setup(
        model="m", layer=3, prefixes=["x", "y"], n_prefixes=4, seed=5, second_moment="c",
        device="cpu", dtype="float64", bos=False, trust_remote_code=True, quiet=True,
    )  # fmt: skip
    assert made == expected == Setup(**expected.options())
    assert made.inputs() == ["m", "c"]
    default = options.setup(build_parser().parse_args(["--subject=A"]))
    assert default == Setup(device="auto", dtype="float32")


def test_the_engine_that_is_asked_for_runs_the_model(tiny_dir: Callable[[str], Path]) -> None:
    assert type(engine_for(load_model())) is GPT2
    general = load_model(engine="general")
    assert type(engine_for(general)) is Unhooked
    # A model in memory keeps its own where nothing is asked for, and is not changed by a call.
    assert Setup(model=general).load() is general
    assert type(engine_for(Setup(model=general, engine="fast").load())) is GPT2
    assert general.engine == "general"
    with pytest.raises(UserError, match="there is no fast engine for"):
        load_model(tiny_dir("llama"), engine="fast")
    with pytest.raises(UserError, match="engine must be one of"):
        Setup(engine="bridge")  # type: ignore[arg-type]


def test_every_command_takes_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    printed = [
        (command.main(["--subject", "Apple", "--engine", engine]), capsys.readouterr().out)
        for engine in ("general", "fast")
    ]
    assert printed[0] == printed[1] and printed[0][0] == 0
