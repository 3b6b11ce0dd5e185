"""A screening at several blocks says at each what a screening, and a diagnosis, of it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from diag.keys import diagnose
from diag.screen import screen, screen_layers
from diag.screen.result import LayerScreening
from diag.screen.table import Parts
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.second_moment import choose
from probes.second_moment import cost as forecast
from reports.command import markdown, page, text
from reports.document import read_document
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.errors import UserError
from tests.diag.screen.conftest import LAYERS

FIGURES = ("relative_bound", "relative_bound_first_tokens", "expected_share")


@pytest.fixture(scope="module")
def options(place: Path, tiny_dir: Callable[[str], Path]) -> dict[str, Any]:
    return {
        "model": load(tiny_dir("gpt2"), dtype="float64"), "n_prefixes": 4, "quiet": True,
        "second_moment": str(place / "c-{layer}.safetensors"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def compared(place: Path, options: dict[str, Any]) -> LayerScreening:
    return screen_layers(place / "edits.jsonl", place / "t.parquet", layers=LAYERS, **options)


def rows_at(path: str | Path, layer: int) -> list[dict[str, Any]]:
    rows = pq.read_table(path).to_pylist()
    return [{k: v for k, v in row.items() if k != "layer"} for row in rows if row["layer"] == layer]


def assert_alike(one: Any, other: Any, *, to: float = 1e-9) -> None:
    assert one == (pytest.approx(other, rel=to) if isinstance(other, float) else other)


@pytest.mark.parametrize("layer", LAYERS)
def test_each_block_has_the_rows_of_a_screening_of_it_alone(
    layer: int, compared: LayerScreening, place: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    own = options | {"second_moment": str(place / f"c-{layer}.safetensors")}
    alone = screen(place / "edits.jsonl", tmp_path / "one.parquet", layer=layer, **own)
    found = rows_at(compared.path, layer)
    expected = pq.read_table(alone.path).to_pylist()
    assert len(found) == len(expected) == 16
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert_alike(row[name], value)
    if layer == LAYERS[-1]:  # whose keys are computed as they are alone
        assert [{name: row[name] for name in expected[0]} for row in found] == expected
    counts = alone.document["summary"]["verdicts"]
    assert compared.verdicts[layer] == counts
    other_layer = rows_at(compared.path, LAYERS[LAYERS.index(layer) - 1])
    assert other_layer[0]["rho"] != pytest.approx(found[0]["rho"], rel=1e-3)  # the control


@pytest.mark.parametrize("layer", LAYERS)
def test_every_editor_has_the_numbers_of_the_diagnosis(
    layer: int, compared: LayerScreening, place: Path, options: dict[str, Any]
) -> None:
    own = options | {"second_moment": str(place / f"c-{layer}.safetensors")}
    rows = [row for row in rows_at(compared.path, layer) if row["error"] is None]
    for row in rows[::4]:
        alone = diagnose(row["subject"], row["prompt"], layer=layer, **own).document
        for name in EDITORS:
            for figure in FIGURES:
                assert_alike(row[f"{figure}_{name}"], alone["damage"][name][figure])
            for where in ("bare", "prefixed"):
                assert_alike(row[f"{where}_{name}"], alone["response"][name][where])
            verdict = row["verdict" if name == PUBLISHED else f"verdict_{name}"]
            assert verdict == alone["damage"][name]["verdict"]


def test_the_summary_is_the_table_s(compared: LayerScreening) -> None:
    table = compared.to_pandas()
    assert table["row"].tolist() == [row for row in range(16) for _ in LAYERS]
    assert table["layer"].tolist() == list(LAYERS) * 16
    for row in compared.document["layers"]:
        own = table[(table["layer"] == row["layer"]) & table["error"].isna()]
        assert (row["screened"], row["errors"]) == (15, 1)
        is_first = own["is_first_token"].astype(bool)
        for name, some in (("all", own), ("first", own[is_first]), ("later", own[~is_first])):
            group = row["groups"][name]
            assert group["n"] == len(some) > 3
            expected = np.quantile(some["rho"], (0.05, 0.5, 0.95))
            assert list(group["rho"].values()) == pytest.approx(expected)
            of = group["editors"]["c_rome"]
            assert of["verdicts"]["safe"] == (some["verdict_c_rome"] == "safe").sum()
            assert of["relative_bound"]["median"] == pytest.approx(
                some["relative_bound_c_rome"].median()
            )
    assert compared.document["errors"] == [
        {"row": 4, "layers": list(LAYERS), "error": table["error"].dropna().iloc[0]}
    ]
    assert compared.document["n_errors"] == 1


def test_second_moments_that_do_not_fit_together_change_nothing(
    compared: LayerScreening, place: Path, options: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(forecast, "groups", lambda layers, *_, **__: [[each] for each in layers])
    monkeypatch.setattr("diag.screen.run.shard_size", lambda *_: 5)
    again = screen_layers(place / "edits.jsonl", tmp_path / "t.parquet", layers=LAYERS, **options)
    for row, other in zip(
        pq.read_table(again.path).to_pylist(), pq.read_table(compared.path).to_pylist(), strict=True
    ):
        for name, value in other.items():
            assert_alike(row[name], value)


def test_interrupted_it_goes_on(
    compared: LayerScreening, place: Path, options: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("diag.screen.run.shard_size", lambda *_: 5)
    write = Parts.write

    def interrupted(self: Parts, index: int, rows: Any) -> None:
        if index == 2:
            raise KeyboardInterrupt
        write(self, index, rows)

    again = {"dataset": place / "edits.jsonl", "output": tmp_path / "t.parquet", **options}
    monkeypatch.setattr(Parts, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        screen_layers(layers=LAYERS, **again)
    monkeypatch.setattr(Parts, "write", write)
    with pytest.raises(UserError, match=r"other settings \(layers"):
        screen_layers(layers=LAYERS[:2], **again)
    resumed = screen_layers(layers=LAYERS, **again)
    assert resumed.document["run"]["resumed"] == 10
    assert resumed.document["run"]["measured"] == 6
    assert resumed.verdicts == compared.verdicts
    assert not (tmp_path / "t.parquet.parts").exists()


def test_missing_second_moments_come_from_one_pass(
    place: Path, tiny_model: Callable[[str], LoadedModel], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(choose.CACHE_VARIABLE, str(tmp_path))
    passes: list[list[int]] = []
    estimate_layers = choose.estimate_layers

    def counted(model, layers, *arguments, **named):
        passes.append(list(layers))
        return estimate_layers(model, layers, *arguments, **named)

    monkeypatch.setattr(choose, "estimate_layers", counted)
    model = tiny_model("llama")
    every = screen_layers(
        place / "edits.jsonl", tmp_path / "t.parquet", model=model, n_prefixes=2, quiet=True
    )
    assert passes == [list(range(int(model.config.n_layers)))] == [list(every.verdicts)]


def test_it_is_a_page_a_text_markdown_and_figures(compared: LayerScreening) -> None:
    document = json.loads(compared.to_json())
    for render in (page, text, markdown):
        shown = render([document])
        assert "C-ROME, block by block" in shown and "15 edits of edits.jsonl at 3 blocks" in shown
    assert "Verdicts on C-ROME, by block. 0: " in repr(compared.plot_verdicts("c_rome"))
    assert "P-ROME: 0: " in repr(compared.plot_damage())
    assert "3 blocks" in repr(compared)
    with pytest.raises(UserError, match="a table of several blocks: show the summary"):
        read_document(compared.path)


@pytest.mark.parametrize("layers", [[], "some", ["1"], [0.5], 3, [1, 1], [True]])
def test_what_is_no_block_is_refused(
    layers: Any, place: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="layers are block numbers, each once"):
        screen_layers(place / "edits.jsonl", tmp_path / "t.parquet", layers=layers, **options)
    with pytest.raises(UserError, match=r"layers=\[…\], not layer="):
        screen_layers(place / "edits.jsonl", tmp_path / "t.parquet", layer=1, **options)
