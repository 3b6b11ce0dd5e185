"""``python -m probes.first_token``: a document that holds together, repeats, and is readable."""

from __future__ import annotations

import json
import subprocess
import sys
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
    assert first_token.main([*words, "--json", str(tmp_path / "one.json")]) == 0
    text = capsys.readouterr().out
    page = tmp_path / "two.html"
    saving = ["--json", str(tmp_path / "two.json"), "--html", str(page)]
    assert first_token.main([*words, "--quiet", *saving]) == 0
    assert capsys.readouterr().out == ""
    document, again = (
        json.loads((tmp_path / f"{file}.json").read_text(encoding="utf-8"))
        for file in ("one", "two")
    )
    assert document.pop("created") <= again.pop("created")
    assert document == again
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
    saved = json.loads((tmp_path / "two.json").read_text(encoding="utf-8"))
    assert page.read_text(encoding="utf-8") == render(saved)
    result = run.FirstTokenProbes(saved, ())
    frame = result.to_pandas()
    assert frame[list(found["shapley"])].sum(axis=1).tolist() == pytest.approx(
        frame["delta"].tolist(), abs=1e-6
    )
    for picture in (result.plot_shares(), result.plot_recovery(), result.plot_keys("pca")):
        assert "<svg" in picture._repr_html_()
    assert "principal component" in result.plot_directions("pca")._repr_html_()


def test_help_is_light_and_mistakes_are_the_users(
    tmp_path: Path, tiny_model: Callable[[str], LoadedModel]
) -> None:
    script = (
        "import sys; from probes.first_token.command import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'sklearn', 'rich', 'numpy'}\n"
        "assert not heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--n-subjects" in done.stdout
    with pytest.raises(UserError, match="cannot read the subjects"):
        first_token.main(["--subjects", str(tmp_path / "absent.txt")])
    with pytest.raises(UserError, match="no directory"):
        first_token.main(["--json", "/nowhere/at/all.json"])
    model = tiny_model("gpt2")
    for options in ({"n_subjects": 0}, {"pairs": 0}, {"prefixes": []}, {"layer": 9}):
        with pytest.raises(UserError):
            probe(model=model, second_moment="identity", **options)
    assert api.COUNT == subject_set.DEFAULT_COUNT
