"""Every call on a second device says what it says on the CPU, and leaves the weights as they were.

The second device is a GPU where there is one, and everywhere a pretended one whose tensors refuse
to be mixed with the CPU's (:mod:`tests.device.pretend`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import rome_diagnosis as rd
from diag.verify.settings import Facts
from probes import bundled
from probes.forward.generate import generate
from probes.forward.unhooked import plain
from probes.keys.causal_trace import known, trace
from probes.keys.many_edits import SharedPrefixes
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request import prefixes
from probes.request.cases import EditCase, fact, from_record
from probes.request.request import request
from probes.second_moment.moment import SecondMoment
from probes.target_value import replayed
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import optimise
from tests.device.pretend import IS_THERE, pretend_device

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PRETEND = pytest.mark.skipif(not IS_THERE, reason="there is a real device")
APPLE: dict[str, Any] = {"subject": "Apple", "prompt": "{} was founded by"}
PREFIXES = ("The weather was fine. ", "They walked to the river. ", "I think so. ")
GIVEN: dict[str, Any] = {"prefixes": PREFIXES, "quiet": True}
FACTS = Facts("few", tuple(fact(one) for one in bundled.facts()[:4]))
FEW: dict[str, Any] = {"texts": bundled.texts()[:2], "facts": FACTS, "generated_tokens": 3}
SHORT = Hyperparameters(evaluations=4, learning_rate=0.1)
# Of the document, not of the model: what differs between any two runs.
OWN = {"created", "command", "device", "seconds", "versions", "file", "table", "path", "origin"}
# float32 sums in another order, divided by a denominator that is a small difference of them.
KEYS, PERFORMED = 1e-4, 2e-2


@dataclass(frozen=True, repr=False)
class Devices:
    """The bundled model on the CPU and on the device under test."""

    cpu: LoadedModel
    other: LoadedModel
    within: Callable[[], AbstractContextManager[Any]]

    def both(self, call: Callable[[LoadedModel], Any]) -> tuple[Any, Any]:
        """What a call gives on each; neither may change a bit of the weights."""
        first = _untouched(self.cpu, call)
        with self.within():
            return first, _untouched(self.other, call)

    def of(self, call: Callable[[str], Any]) -> tuple[Any, Any]:
        """What a call gives that is handed the name of each device."""
        first = call("cpu")
        with self.within():
            return first, call(self.other.device.type)


def _untouched(model: LoadedModel, call: Callable[[LoadedModel], Any]) -> Any:
    before = {name: value.cpu().clone() for name, value in model.state_dict.items()}
    result = call(model)
    for name, value in model.state_dict.items():
        assert torch.equal(value.cpu(), before[name]), name
    return result


@pytest.fixture(
    scope="module",
    params=[pytest.param("pretend", marks=PRETEND), pytest.param("cuda", marks=CUDA)],
)
def devices(request: pytest.FixtureRequest) -> Devices:
    within = pretend_device if request.param == "pretend" else nullcontext
    with within():
        other = load(bundled.model_path(), name="bundled", device=request.param)
    assert other.device.type == request.param
    return Devices(load(bundled.model_path(), name="bundled", device="cpu"), other, within)


def compare(one: Any, other: Any, rel: float, at: str = "") -> None:
    """Documents alike: numbers to a relative tolerance, everything else exactly."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), at
        for name in one.keys() - OWN:
            compare(one[name], other[name], rel, f"{at}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), at
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            compare(a, b, rel, f"{at}[{i}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=rel, abs_tol=rel * 1e-2), f"{at}: {one} {other}"
    else:
        assert one == other, f"{at}: {one!r} {other!r}"


def cases(n: int) -> list[EditCase]:
    """Facts of the bundled world with objects of one token and of several."""
    facts = [one for one in bundled.facts() if " " in one["subject"]]
    return [from_record(one) for one in facts[:: len(facts) // n][:n]]


def test_a_diagnosis(devices: Devices) -> None:
    def diagnosed(model: LoadedModel) -> Any:
        device = model.device.type  # which names cuda:0, too
        return rd.diagnose(**APPLE, model=model, device=device, **GIVEN)

    one, other = devices.both(diagnosed)
    assert one.verdict == other.verdict
    compare(one.denominators, other.denominators, KEYS)
    compare(one.response, other.response, 10 * KEYS)
    torch.testing.assert_close(one.keys, other.keys, rtol=KEYS, atol=1e-5)


def test_prefixes_are_drawn_alike(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "_drawn", {})
    monkeypatch.setattr(prefixes.cache, "read", lambda *_: None)

    def drawn(model: LoadedModel) -> list[str]:
        prefixes._drawn.clear()
        return prefixes.sample(model, n=20, seed=3)

    one, other = devices.both(drawn)
    assert one == other


def test_texts_of_different_lengths_are_continued_alike(devices: Devices) -> None:
    """The shorter ones are padded on the left, where nothing may be attended to."""
    prompts = ["Apple", "The capital of France is", "They walked to the river because the weather"]
    one, other = devices.both(lambda model: generate(model, prompts, n_tokens=8, top_k=[1, 1, 5]))
    assert one == other


@pytest.mark.parametrize("name", ["gptj", "llama", "gemma2"])
def test_other_architectures(devices: Devices, name: str, tiny_dir: Callable[[str], Path]) -> None:
    """By Hugging Face's blocks, a gradient of PyTorch's own and the bridge's hooks."""

    def measured(model: LoadedModel) -> Any:
        edit = request("Apple", "{} was founded by", target_new="Danielle")
        shared = SharedPrefixes(model, 1, PREFIXES)
        captured = shared.capture(shared.place([edit])).of()
        return captured, optimise(model, [edit], PREFIXES, 1, SHORT)[0].value

    one, other = devices.of(lambda device: measured(load(tiny_dir(name), device=device)))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_second_moment(devices: Devices, tmp_path: Path) -> None:
    def estimated(model: LoadedModel) -> SecondMoment:
        output = tmp_path / f"{model.device.type}-{{layer}}.safetensors"
        made = rd.second_moments(
            model=model, layers=[1, 2], max_tokens=6000, output=output, quiet=True
        )
        return made.load(2)

    one, other = devices.both(estimated)
    torch.testing.assert_close(one.moment, other.moment, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.background.later_keys, other.background.later_keys,
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_a_sweep(devices: Devices) -> None:
    options: dict[str, Any] = APPLE | GIVEN | {"layers": [0, 1], "second_moment": "identity"}
    one, other = devices.both(lambda model: rd.sweep(model=model, **options))
    assert one.verdicts == other.verdicts
    compare(one.document["sink"], other.document["sink"], KEYS)
    for a, b in zip(one.document["layers"], other.document["layers"], strict=True):
        assert math.isclose(a["ratio"], b["ratio"], rel_tol=KEYS)


@pytest.mark.parametrize("call", [
    rd.screen,
    partial(rd.screen_layers, layers=[0, 1], second_moment="identity"),
])  # fmt: skip
def test_a_screened_data_set(devices: Devices, call: Callable[..., Any], tmp_path: Path) -> None:
    data = tmp_path / "edits.json"
    data.write_text(json.dumps(bundled.facts()[:40]))

    def screened(model: LoadedModel) -> Any:
        return call(data, tmp_path / f"{model.device.type}.parquet", model=model, **GIVEN)

    one, other = (each.to_pandas() for each in devices.both(screened))
    assert list(one["verdict"]) == list(other["verdict"])
    compare(one["rho"].tolist(), other["rho"].tolist(), KEYS)


@pytest.mark.parametrize("engine", ["auto", "general"])
@pytest.mark.parametrize("sites", [("value",), ("resid_post",), ("attention", "value")])
def test_a_target_value(devices: Devices, engine: Any, sites: Any) -> None:
    edits = [case.request for case in cases(3)]

    def values(model: LoadedModel) -> list[Any]:
        return optimise(model.run_by(engine), edits, PREFIXES, 1, SHORT, sites=sites)

    one, other = devices.both(values)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.value, b.value, rtol=1e-3, atol=1e-3)
        assert a.losses == pytest.approx(b.losses, rel=1e-3)
    with devices.within():
        again = values(devices.other)
    assert all(torch.equal(a.delta, b.delta) for a, b in zip(other, again, strict=True))


@CUDA
def test_steps_that_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the steps bit for bit; a model that cannot be recorded takes them one by one."""
    model = load(bundled.model_path(), name="bundled", device="cuda")
    edits = [case.request for case in cases(3)]
    recorded: list[bool] = []

    class Recorded(replayed._Recorded):
        def __init__(self, *given: Any) -> None:
            recorded.append(True)
            super().__init__(*given)

    def values() -> list[Any]:
        return optimise(model.run_by("general"), edits, PREFIXES, 1, SHORT)

    monkeypatch.setattr(replayed, "_Recorded", Recorded)
    with_graphs = values()
    assert recorded
    assert plain(model).model not in replayed._NOT_RECORDED

    class Waiting(Recorded):
        """Reads what asks for a number, which the device must be waited for."""

        def __init__(self, reader: Any, like: Any) -> None:
            read = reader.read
            reader.read = lambda change: (float(change.sum()), read(change))[1]
            try:
                super().__init__(reader, like)
            finally:
                reader.read = read

    monkeypatch.setattr(replayed, "_Recorded", Waiting)
    one_by_one = values()
    assert plain(model).model in replayed._NOT_RECORDED
    for a, b in zip(with_graphs, one_by_one, strict=True):
        assert a.losses == b.losses
        assert torch.equal(a.delta, b.delta)


def test_a_verified_edit(devices: Devices) -> None:
    options = APPLE | GIVEN | FEW | {"target_new": "Bill Gates", "hyperparameters": SHORT}
    one, other = devices.both(lambda model: rd.verify(model=model, **options))
    assert one.document["arms"].keys() == other.document["arms"].keys()
    for name, arm in one.document["arms"].items():
        beside = other.document["arms"][name]
        assert arm["perplexity"]["n_tokens"] == beside["perplexity"]["n_tokens"]
        compare(arm["denominator"], beside["denominator"], KEYS, name)
        for part in ("perplexity", "damage", "recall", "locality"):
            compare(arm[part], beside[part], PERFORMED, f"{name}.{part}")


def test_a_batch(devices: Devices) -> None:
    def made(model: LoadedModel) -> Any:
        return rd.batch(cases(5), method="memit", perform=True, model=model, prefixes=PREFIXES,
                        quiet=True, texts=FEW["texts"], facts=FACTS)  # fmt: skip

    one, other = devices.both(made)
    assert (one.verdict, one.outcome) == (other.verdict, other.outcome)
    a, b = one.to_pandas(), other.to_pandas()
    compare(a["response_bare"].tolist(), b["response_bare"].tolist(), KEYS)
    compare(a["received"].tolist(), b["received"].tolist(), PERFORMED)


@pytest.mark.parametrize("method", ["rome", "memit", "alphaedit"])
def test_a_sequence(devices: Devices, method: str) -> None:
    if devices.within is pretend_device and method != "rome":
        pytest.skip("a second example, of what a batch and ROME's list do on the pretended device")

    def made(model: LoadedModel) -> Any:
        return rd.sequence(cases(4), method=method, perform=True, hyperparameters=SHORT,
                           model=model, **GIVEN, **FEW)  # fmt: skip

    one, other = devices.both(made)
    assert one.collapse_at == other.collapse_at
    compare(one.forecast["collapse_at"], other.forecast["collapse_at"], KEYS)
    for a, b in zip(one.checkpoints, other.checkpoints, strict=True):
        assert a["outcome"] == b["outcome"]
        for name in ("ratio", "damage_predicted", "damage_measured", "efficacy_prefixed"):
            compare(a[name], b[name], PERFORMED, name)


def test_an_edit_is_saved_and_undone(devices: Devices, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def restored(model: LoadedModel) -> Any:
        folder = tmp_path / model.device.type
        applied = rd.apply("Apple", output=folder, model=model, quiet=True, **FEW)
        edited = load_file(folder / "model.safetensors")
        rd.undo(folder)
        return applied, edited, load_file(folder / "model.safetensors")

    (one, was, _), (other, edited, after) = devices.both(restored)
    assert one.edits[0]["editor"] == other.edits[0]["editor"]
    name = other.document["weight"]
    original = load_file(bundled.model_path() / "model.safetensors")
    assert all(torch.equal(value, after[key]) for key, value in original.items())
    assert not torch.equal(edited[name], original[name])
    torch.testing.assert_close(edited[name], was[name], rtol=1e-2, atol=1e-3)


def test_downstream_tasks(devices: Devices) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: [tasks]")
    one, other = devices.both(lambda model: rd.tasks(limit=5, model=model, quiet=True))
    compare(one.tasks, other.tasks, KEYS)


def test_hard_cases(devices: Devices, tmp_path: Path) -> None:
    def mined(model: LoadedModel) -> Any:
        output = tmp_path / f"{model.device.type}.json"
        return rd.hardcases(output, n=4, perform=1, hyperparameters=SHORT,
                            model=model, **GIVEN, **FEW)  # fmt: skip

    one, other = devices.both(mined)
    a, b = one.to_pandas(), other.to_pandas()
    assert list(a["subject"]) == list(b["subject"])


def test_a_first_token_probe(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.first_token.run.TEXTS", 4)
    one, other = devices.both(lambda model: rd.probe(n_subjects=3, pairs=1, model=model, **GIVEN))
    compare(one.document["attribution"]["shapley"], other.document["attribution"]["shapley"],
            10 * KEYS)  # fmt: skip


def test_a_causal_trace(devices: Devices) -> None:
    def traced(model: LoadedModel) -> Any:
        facts = known(model, [fact(one).request for one in bundled.facts()[:20]])
        return trace(model, facts[:4], seed=1)

    one, other = devices.both(traced)
    torch.testing.assert_close(one.restored, other.restored, rtol=1e-3, atol=1e-5)
    assert one.layer == other.layer
