"""``python -m probes.first_token``: a document that holds together, repeats, and is readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.first_token import api, probe, run
from probes.first_token import command as first_token
from probes.first_token import subjects as subject_set
from probes.model.loaded import LoadedModel
from probes.setup import Setup
from reports.pages.page import render
from rome_diagnosis.errors import UserError
from tests.probes.first_token import probing

ROOT = Path(__file__).parents[3]


@pytest.fixture
def subjects(tmp_path: Path) -> str:
    path = tmp_path / "subjects.txt"
    path.write_text("\n".join(probing.NAMES), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["gpt2", "gptj", "llama"])
def test_the_document_holds_together(
    name: str, subjects: str, tiny_model: Callable[[str], LoadedModel], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = tiny_model(name)
    monkeypatch.setattr(Setup, "load", lambda setup: model)
    monkeypatch.setattr(run, "TEXTS", 12)
    monkeypatch.setenv("COLUMNS", "200")
    words = ["--subjects", subjects, "--any-subject", "--layer", "2"]
    words += ["--second-moment", "identity"]
    words += [f"--prefix={prefix}" for prefix in probing.PREFIXES]
    saved, page = tmp_path / "one.json", tmp_path / "one.html"
    assert first_token.main([*words, "--json", str(saved), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    document = json.loads(saved.read_text(encoding="utf-8"))
    if name == "gpt2":
        repeated = ["--quiet", "--json", str(tmp_path / "two.json")]
        assert first_token.main([*words, *repeated]) == 0
        assert capsys.readouterr().out == ""
        again = json.loads((tmp_path / "two.json").read_text(encoding="utf-8"))
        assert document["created"] <= again["created"]
        assert document | {"created": ""} == again | {"created": ""}
    assert document["schema"] == "probes.first_token/1"
    assert [block["layer"] for block in document["layers"]] == list(range(model.n_layers))
    assert [block["whitened"] for block in document["layers"]] == [False, False, True, False]
    assert len(document["sinks"]["layers"]) == model.n_layers
    found = document["attribution"]
    total = sum(share["mean"] for share in found["shapley"].values())
    assert total == pytest.approx(found["delta"]["mean"], abs=1e-6)
    rho = document["rho"]
    assert found["combinations"]["none"]["mean"] == pytest.approx(
        rho["unprefixed"]["mean"], abs=1e-4
    )
    assert document["patching"]["null_error"] < 1e-5
    for effect in document["interventions"]["effects"]:
        assert (effect["reason"] is None) == (effect["delta"] is not None)
        assert effect["name"] in text
    for factor in found["shapley"]:
        assert factor in text
    assert document["command"].startswith("python -m probes.first_token")
    assert "Attribution" in text
    assert len(document["projections"]["keys"]["points"]) == 2 * document["subjects"]["n"]
    assert page.read_text(encoding="utf-8") == render(document)
    result = run.FirstTokenProbes(document, ())
    frame = result.to_pandas()
    assert frame[list(found["shapley"])].sum(axis=1).tolist() == pytest.approx(
        frame["delta"].tolist(), abs=1e-6
    )
    for picture in (result.plot_shares(), result.plot_recovery(), result.plot_keys("pca")):
        assert "<svg" in picture._repr_html_()
    assert "principal component" in result.plot_directions("pca")._repr_html_()


def test_a_wrong_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="nosuch/model"):
        first_token.main(["--model", "nosuch/model"])
    assert capsys.readouterr().err == ""  # not how long it would have taken


def test_mistakes_are_the_users(tmp_path: Path, tiny_model: Callable[[str], LoadedModel]) -> None:
    with pytest.raises(UserError, match="cannot read the subjects"):
        first_token.main(["--subjects", str(tmp_path / "absent.txt")])
    with pytest.raises(UserError, match="no directory"):
        first_token.main(["--json", "/nowhere/at/all.json"])
    model = tiny_model("gpt2")
    for options in ({"n_subjects": 0}, {"pairs": 0}, {"prefixes": []}, {"layer": 9}):
        with pytest.raises(UserError):
            probe(model=model, second_moment="identity", **options)
    assert api.COUNT == subject_set.DEFAULT_COUNT
