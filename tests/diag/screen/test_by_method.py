"""A method's columns of a screening are what the pre-flight of a batch of one edit says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from diag.batch.check import check_batch
from diag.batch.settings import prepare_workplace
from diag.screen import screen
from diag.screen.api import choose_screening
from diag.screen.by_method import NUMBERS
from diag.screen.command import main
from probes.model.load import load
from probes.request.request import request
from probes.second_moment import stored
from probes.setup import Setup
from reports.command import markdown, page, text
from reports.document import with_rows
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from tests.diag.screen.test_shard import solvable
from tests.probes.keys.test_many_edits import EDITS, PREFIXES

LAYER = 2
WEIGHTS = {"memit": {"weight": 30.0}, "encore": {"weight": 5.0, "ridge": 0.5}}


@pytest.fixture(scope="module")
def options(
    tiny_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A float64 model, in which rounding hides nothing, and a second moment of its own."""
    folder = tmp_path_factory.mktemp("method")
    model = load(tiny_dir("gpt2"), dtype="float64")
    stored.save(solvable(model, LAYER), folder / "c.safetensors")
    return {
        "model": model, "layer": LAYER, "prefixes": PREFIXES, "quiet": True,
        "second_moment": str(folder / "c.safetensors"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edits") / "edits.jsonl"
    records = [{"subject": edit.subject, "prompt": edit.prompt} for edit in EDITS]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", [name for name in METHODS if name != PUBLISHED])
def test_each_edit_is_a_batch_of_one(
    name: str, edits: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    method = choose_screening(name, WEIGHTS.get(name))
    result = screen(edits, tmp_path / "t.parquet", method=method, **options)
    rows = pq.read_table(result.path).to_pylist()
    workplace = prepare_workplace(Setup(**options), method)
    different = set()
    for edit, row in zip(EDITS, rows, strict=True):
        alone = check_batch(workplace, [request(edit.subject, edit.prompt)])
        damage = alone.layers[0].damage
        found = {figure: row[f"{figure}_{name}"] for figure in NUMBERS}
        assert alone.bare is not None and alone.prefixed is not None
        assert found["bare"] == pytest.approx(float(alone.bare), rel=1e-9)
        assert found["prefixed"] == pytest.approx(float(alone.prefixed), rel=1e-9)
        assert found["relative_bound"] == pytest.approx(damage.relative_bound, rel=1e-9)
        assert found["relative_bound_first_tokens"] == pytest.approx(
            damage.relative_first_tokens, rel=1e-9
        )
        assert found["relative_bound"] * found["expected_share"] == pytest.approx(
            damage.relative_expected, rel=1e-9
        )
        assert row[f"verdict_{name}"] == alone.verdict
        different.add(round(found["bare"], 9))
    assert len(different) > 1 or name == "p_rome"  # the control
    of = result.document["method"]
    assert of["name"] == name
    assert of["faint"] == sum(row[f"bare_{name}"] < of["faint_below"] for row in rows)
    counts = of["groups"]["all"]["editors"][name]["verdicts"]
    assert result.verdicts == counts and sum(counts.values()) == len(EDITS)
    assert list(of["groups"]["all"]["editors"]) == [name]


def test_rome_s_own_columns_stay_what_they_are(
    edits: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    alone = screen(edits, tmp_path / "a.parquet", **options)
    beside = screen(edits, tmp_path / "b.parquet", method="memit", **options)
    rows = pq.read_table(alone.path).to_pylist()
    assert [
        {name: row[name] for name in rows[0]} for row in pq.read_table(beside.path).to_pylist()
    ] == rows
    assert "method" not in alone.document
    for name in ("summary", "clamp_factor", "contexts", "limits"):
        assert beside.document[name] == alone.document[name]
    clamped = screen(edits, tmp_path / "c.parquet", method="memit", clamp=0.0075, **options)
    for row, other in zip(
        clamped.to_pandas().to_dict("records"), beside.to_pandas().to_dict("records"), strict=True
    ):
        assert row["relative_bound_memit"] == pytest.approx(other["relative_bound_memit"] / 100)
        assert row["relative_bound_rome"] == other["relative_bound_rome"]


def test_it_is_shown(edits: Path, options: dict[str, Any], tmp_path: Path) -> None:
    document = screen(edits, tmp_path / "t.parquet", method="memit", **options).document
    for render in (page, text, markdown):
        shown = " ".join(render([with_rows(document)]).split())
        assert "With MEMIT, each edit by itself" in shown
        assert "of 7 edits will hardly take at the bare prompt" in shown
        assert "λ = 15,000" in shown
        assert "With MEMIT 0 of 7 edits are a collapse risk, and 7 hardly take." in shown


def test_the_command(edits: Path, tiny_dir: Callable[[str], Path], tmp_path: Path) -> None:
    words = [str(edits), "-o", str(tmp_path / "t.parquet"), f"--model={tiny_dir('gpt2')}"]
    words += ["--layer=1", "--second-moment=identity", "--quiet"]
    target = tmp_path / "t.json"
    assert main([*words, "--method=memit", "--weight=7", f"--json={target}"]) == 0
    document = json.loads(target.read_text())
    assert document["method"]["parameters"] == {"weight": 7.0}
    assert document["method"]["clamp_factor"] == METHODS["memit"].clamp
    assert document["contexts"]["n"] == METHODS["memit"].contexts
    assert main([*words, "--clamp-norm-factor=2", f"--json={target}"]) == 0
    document = json.loads(target.read_text())
    assert document["clamp_factor"] == 2 and document["contexts"]["n"] == 20
    (tmp_path / "memit.json").write_text(
        json.dumps({"alg_name": "MEMIT", "layers": [0], "mom2_update_weight": 9})
    )
    file = f"--hyperparameters={tmp_path / 'memit.json'}"
    assert main([*words[:4], *words[5:], file, f"--json={target}"]) == 0
    document = json.loads(target.read_text())
    assert document["method"]["parameters"] == {"weight": 9.0} and document["site"]["layer"] == 0
    (tmp_path / "several.json").write_text(json.dumps({"alg_name": "MEMIT", "layers": [0, 1]}))
    with pytest.raises(UserError, match="one block, not of 0, 1"):
        main([*words[:4], *words[5:], f"--hyperparameters={tmp_path / 'several.json'}"])
    for wrong, complaint in (
        (["--method=mend"], "invalid choice: 'mend'"),
        (["--weight=7"], "rome has no parameter weight"),
        (["--method=memit", "--layer=0,1"], "--method takes one block"),
        (["--method=memit", "--forecast"], f"--forecast is about {', '.join(EDITORS)}"),
        (["--method=emmet", "--weight=0"], "EMMET has no metric"),
    ):
        with pytest.raises(UserError, match=complaint):
            main([*words, *wrong])
