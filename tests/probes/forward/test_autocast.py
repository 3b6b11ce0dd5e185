"""Passes in bfloat16: stated, close, of the same verdict; what edits the model is not rounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rome_diagnosis as rd
from diag.mathematics.update import RankOne, rank_one
from probes import bundled
from probes.edited.perplexity import PerplexityMeter
from probes.forward.generate import generate
from probes.keys.observe import observe
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.request import request
from probes.second_moment import choose
from probes.second_moment.corpus_pass import Pass
from probes.second_moment.moment import SecondMoment
from probes.setup import Setup
from probes.target_value.optimise import optimise
from probes.text.corpus import packaged
from rome_diagnosis import limits
from rome_diagnosis.disk.journal import check_same_run
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

LAYER = bundled.edit_layer()
PREFIXES = ["The weather was fine. ", "It is known that it rains. "]
TEXTS = bundled.texts()[:12]


@pytest.fixture(scope="module")
def exact() -> LoadedModel:
    return Setup(quiet=True).load()


@pytest.fixture(scope="module")
def rounded(exact: LoadedModel) -> LoadedModel:
    return replace(exact, autocast="bfloat16")


def test_keys_are_rounded_and_close(exact: LoadedModel, rounded: LoadedModel) -> None:
    edit = request("Apple", "{} was founded by")
    one, other = (observe(m, edit, LAYER, PREFIXES).keys for m in (exact, rounded))
    apart = float((one - other).norm() / one.norm())
    assert 1e-4 < apart < 2e-2
    assert one.dtype == other.dtype == torch.float64


def test_no_verdict_changes_but_beside_a_limit(tmp_path: Path, exact: LoadedModel) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(json.dumps(fact) + "\n" for fact in bundled.facts()[::15]))
    for name, autocast in (("exact", None), ("rounded", "bfloat16")):
        rd.screen(facts, tmp_path / f"{name}.parquet", model=exact, autocast=autocast, quiet=True)
    one, other = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("exact", "rounded"))
    assert not (one["rho"] == other["rho"]).any()
    assert {"safe", "damage_risk", "collapse_risk"} <= set(one["verdict"])
    changed = one["verdict"] != other["verdict"]
    assert changed.mean() <= 0.02
    expected = (one["relative_bound_rome"] * one["expected_share_rome"])[changed]
    beside = abs(expected / limits.DAMAGE_COLLAPSE.value - 1) < 0.1
    assert beside.all(), one[changed]


def change_of(model: LoadedModel, subject: str, editor: str) -> RankOne:
    edit = request(subject, "{} is a city in", target_new="Peru")
    ready = Setup(model=model, quiet=True).prepare()
    seen = observe(model, edit, LAYER, ready.prefixes)
    (target,) = optimise(model, [edit], ready.prefixes, LAYER)
    return rank_one(EDITORS[editor], seen.keys, seen.values, target.value, ready.moment)


@pytest.mark.parametrize("editor", EDITORS)
def test_perplexity_gives_the_same_outcome(
    editor: str, exact: LoadedModel, rounded: LoadedModel
) -> None:
    change = change_of(exact, "Vienna", editor)
    ratios = [PerplexityMeter(m, TEXTS, LAYER).compare([change]).ratio for m in (exact, rounded)]
    assert ratios[0] != ratios[1]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.05)
    collapsed = {ratio >= limits.PERPLEXITY_COLLAPSE.value for ratio in ratios}
    assert collapsed == {editor == "rome"}


def test_target_value_and_samples_are_not_rounded(exact: LoadedModel, rounded: LoadedModel) -> None:
    edit = request("Apple", "{} was founded by", target_new="Bill Gates")
    one, other = (optimise(m, [edit], PREFIXES, LAYER)[0].delta for m in (exact, rounded))
    assert torch.equal(one, other)
    said = [generate(m, ["Apple was"], n_tokens=8, top_k=[5], seed=0) for m in (exact, rounded)]
    assert said[0] == said[1]


def test_a_second_moment_of_rounded_keys_has_a_name_of_its_own(
    exact: LoadedModel, rounded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(choose.CACHE_VARIABLE, str(tmp_path))  # in which nobody estimated before
    assert choose.for_model(rounded, LAYER).source == "shipped"  # exact keys are preferred
    estimated = next(iter(Setup(second_moment="auto").find_moments(rounded, [0])))[1]
    assert isinstance(estimated, SecondMoment)
    provenance = estimated.provenance
    assert provenance is not None
    assert provenance.dtype == "bfloat16"
    assert estimated.moment is not None
    assert estimated.moment.dtype == torch.float64
    name = choose.file_name(rounded, 0)
    assert name.endswith("-bfloat16.safetensors")
    assert (tmp_path / name).is_file()
    assert not (tmp_path / choose.file_name(exact, 0)).exists()


def test_weights_in_bfloat16_and_float32_share_no_second_moment(exact: LoadedModel) -> None:
    # Values decide a fingerprint, not their type: weights that were saved in bfloat16 are both.
    stored = Setup(dtype="bfloat16", quiet=True).load()
    alike = replace(exact, fingerprint=stored.fingerprint)
    assert choose.file_name(stored, 1) != choose.file_name(alike, 1)


def test_documents_state_it(rounded: LoadedModel) -> None:
    found = rd.diagnose("Apple", model=rounded, quiet=True)
    document = found.document
    assert document["model"]["autocast"] == "bfloat16"
    assert document["model"]["dtype"] == "float32"
    assert "--autocast bfloat16" in document["command"]
    assert "passes in bfloat16" in found.to_html()
    assert document["second_moment"]["noise_floor"] > 0.01


def test_a_second_moment_s_document_states_it(rounded: LoadedModel, tmp_path: Path) -> None:
    target = str(tmp_path / "c.safetensors")
    one, other = (
        rd.second_moments(
            layers=[LAYER], output=target, model=model, max_tokens=1024, quiet=True
        ).document
        for model in (rounded.exact(), rounded)
    )
    assert "keys_in" not in one["layers"][0]
    assert other["layers"][0]["keys_in"] == "bfloat16"
    assert other["layers"][0]["noise_floor"] > 100 * one["layers"][0]["noise_floor"]
    # Who takes it for exact passes says so too.
    judged = rd.diagnose("Apple", model=rounded.exact(), second_moment=target, quiet=True)
    assert judged.document["second_moment"]["keys_in"] == "bfloat16"
    assert "summed of keys in bfloat16" in judged.to_html()


def test_an_interrupted_run_is_not_continued_in_another_arithmetic(
    rounded: LoadedModel, tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    # Weights that were saved in bfloat16 have one fingerprint however they are loaded.
    saved = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"), dtype=torch.bfloat16)
    saved.save_pretrained(tmp_path / "short")
    AutoTokenizer.from_pretrained(tiny_dir("gpt2")).save_pretrained(tmp_path / "short")
    loaded = load(tmp_path / "short", dtype="bfloat16")
    wide = replace(load(tmp_path / "short"), autocast="bfloat16")
    assert loaded.fingerprint == wide.fingerprint
    settings = [Pass(model, (0,), packaged(), row_length=8).settings for model in (loaded, wide)]
    with pytest.raises(UserError, match=r"other settings \(dtype\)"):
        check_same_run(*settings, "checkpoint")


def test_another_type_is_refused() -> None:
    with pytest.raises(UserError, match="autocast must be 'bfloat16' or None, not 'int8'"):
        Setup(autocast="int8")  # type: ignore[arg-type]
