"""A model that accelerate keeps partly on disk is measured as the same model in memory is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers

import rome_diagnosis as rd
from probes import bundled
from probes.forward.bridge import Bridge
from probes.forward.engine import engine_for
from probes.model.adopt import adopt
from probes.model.loaded import LoadedModel
from probes.model.spread import SpreadState
from probes.request import prefixes
from probes.second_moment.estimate import estimate_layers
from probes.text import corpus
from rome_diagnosis.errors import UserError

FOLDER = bundled.model_path()
ON_DISK = 1  # the first block that is off-loaded, and edited


def read(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Any:
    n_blocks = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["n_layer"]
    parts = ("transformer.wte", "transformer.wpe", "lm_head", "transformer.h.0")
    on_disk = ("transformer.ln_f", *(f"transformer.h.{i}" for i in range(ON_DISK, n_blocks)))
    where = dict.fromkeys(parts, "cpu") | dict.fromkeys(on_disk, "disk")
    return read(FOLDER, device_map=where, offload_folder=tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def whole(tokenizer: Any) -> LoadedModel:
    return adopt(read(FOLDER), tokenizer)


@pytest.fixture(scope="module")
def spread(split: Any, tokenizer: Any) -> LoadedModel:
    return adopt(split, tokenizer)


def test_it_is_spread_and_stays_so(spread: LoadedModel, whole: LoadedModel, split: Any) -> None:
    assert spread.is_spread
    assert not whole.is_spread
    assert type(engine_for(spread)) is Bridge
    assert spread.fingerprint == whole.fingerprint
    rd.diagnose("Apple", model=spread, layer=ON_DISK, quiet=True)
    assert split.transformer.h[ON_DISK].mlp.c_proj.weight.is_meta
    assert spread.bridge.original_model.transformer.wte.weight is not None


def test_its_weights_are_counted_without_being_fetched(
    spread: LoadedModel, whole: LoadedModel, split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole.weight_bytes == sum(p.nbytes for p in read(FOLDER).parameters())
    monkeypatch.setattr(SpreadState, "__getitem__", lambda *_: pytest.fail("one is fetched"))
    shared = split.transformer.wte.weight.nbytes  # of both embeddings, and told apart on one device
    assert spread.weight_bytes - whole.weight_bytes in (0, shared)


@pytest.mark.parametrize("layer", [ON_DISK, ON_DISK + 1])
def test_a_diagnosis_is_the_same(layer: int, spread: LoadedModel, whole: LoadedModel) -> None:
    one, other = (
        rd.diagnose("Apple", model=model, layer=layer, quiet=True).document
        for model in (whole, spread)
    )
    assert one["keys"] == other["keys"]
    assert one["denominators"] == other["denominators"]
    assert one["damage"] == other["damage"]
    assert other["model"]["device"] == "spread by device_map"


def test_a_second_moment_is_the_same(spread: LoadedModel, whole: LoadedModel) -> None:
    moments = [
        dict(estimate_layers(model, [0, ON_DISK], corpus.packaged(), max_tokens=2048))
        for model in (whole, spread)
    ]
    for layer in (0, ON_DISK):
        one, other = (moment[layer].moment for moment in moments)
        assert one is not None
        assert other is not None
        assert float((one - other).norm() / one.norm()) < 1e-6
        assert moments[1][layer].provenance == moments[0][layer].provenance


def test_a_screen_is_the_same(tmp_path: Path, spread: LoadedModel, whole: LoadedModel) -> None:
    edits = tmp_path / "edits.jsonl"
    edits.write_text("".join(json.dumps(fact) + "\n" for fact in bundled.facts()[::200]))
    tables = []
    for name, model in (("whole", whole), ("spread", spread)):
        rd.screen(edits, tmp_path / f"{name}.parquet", model=model, layer=ON_DISK, quiet=True)
        tables.append(pd.read_parquet(tmp_path / f"{name}.parquet"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)


def test_the_same_prefixes_are_sampled(spread: LoadedModel, whole: LoadedModel) -> None:
    drawn = [
        prefixes.draw(engine_for(model), prefixes._starts(model, None), n=2, seed=3, lengths=(5,))
        for model in (whole, spread)
    ]
    assert drawn[0] == drawn[1]


def test_what_edits_it_is_refused_in_a_line(spread: LoadedModel) -> None:
    with pytest.raises(UserError, match="quantised or off-loaded"):
        rd.verify("Apple", model=spread, layer=ON_DISK, target_new="Bill Gates", quiet=True)


def test_weights_on_disk_are_examined(
    tiny_dir: Callable[[str], Path], tmp_path: Path, tokenizer: Any
) -> None:
    model = read(tiny_dir("gpt2"))
    with torch.no_grad():
        model.transformer.h[3].mlp.c_proj.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "damaged")
    parts = ("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head")
    blocks = [f"transformer.h.{i}" for i in range(4)]
    where = dict.fromkeys([*parts, *blocks], "cpu") | {blocks[3]: "disk"}
    damaged = read(tmp_path / "damaged", device_map=where, offload_folder=tmp_path / "disk")
    with pytest.raises(UserError, match=r"h\.3\.mlp\.c_proj\.weight holds 1 value"):
        adopt(damaged, tokenizer)


def test_a_model_without_values_is_refused(tiny_dir: Callable[[str], Path], tokenizer: Any) -> None:
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(tiny_dir("gpt2"))
        )
    with pytest.raises(UserError, match="has no values"):
        adopt(empty, tokenizer)
