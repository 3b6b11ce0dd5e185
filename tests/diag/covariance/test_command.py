"""``python -m diag.covariance``: its documents, its library call, and mistakes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from diag.covariance import second_moments
from diag.covariance.command import main
from diag.keys import command
from probes.second_moment.moment import SecondMoment
from reports.markdown import render as markdown
from reports.numbers import number
from reports.pages.covariance import use
from reports.pages.page import render
from rome_diagnosis.errors import UserError
from tests.diag.covariance.words import words


def test_the_summary_says_what_c_rests_on(made: dict[int, SecondMoment], files: Path) -> None:
    document = json.loads((files / "c.json").read_text())
    assert document["schema"] == "diag.covariance/1"
    assert [layer["layer"] for layer in document["layers"]] == [1, 2]
    for layer in document["layers"]:
        moment = made[layer["layer"]]
        assert layer["n_tokens"] == moment.provenance.n_tokens
        assert layer["convergence"]["n"] > 10
        assert layer["convergence"]["median"] <= layer["convergence"]["largest"]
        assert 0 < layer["shrinkage"] < 1


def test_the_library_call_gives_what_the_command_gives(
    made: dict[int, SecondMoment], files: Path, tmp_path: Path
) -> None:
    result = second_moments(
        model=str(files / "model"), layers=[2, 1], text=[str(files / "text.txt")], row_length=32,
        output=str(tmp_path / "c-{layer}.safetensors"),
    )  # fmt: skip
    document = json.loads((files / "c.json").read_text())
    for ours, theirs in zip(result.document["layers"], document["layers"], strict=True):
        assert ours["convergence"]["median"] == pytest.approx(theirs["convergence"]["median"])
    for layer, moment in made.items():
        assert float((result.load(layer).moment - moment.moment).abs().max()) <= 1e-12
    assert result.to_pandas()["layer"].tolist() == [1, 2]
    with pytest.raises(UserError, match="only of 1, 2"):
        result.load(3)
    for wrong, said in (
        ({"row_length": 0}, "row-length"), ({"layers": []}, "no layers"), ({"text": []}, "no text"),
        ({"ridge": "much"}, "ridge"), ({"text": "/nowhere.txt"}, "/nowhere.txt"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            second_moments(model="there is no such model", **wrong)


def test_the_page_says_how_well_c_is_known(made: dict[int, SecondMoment], files: Path) -> None:
    document = json.loads((files / "c.json").read_text())
    page = render(document)
    assert (files / "c.html").read_text(encoding="utf-8") == page
    assert page.count("<svg") == 2
    for layer in document["layers"]:
        halves = layer["convergence"]["halves"]
        moved = [abs(one - other) / 2 for one, other in halves]
        assert max(moved) == pytest.approx(layer["convergence"]["largest"])
        known = f"known to ± {number(layer['convergence']['median'])}"
        assert known in page.replace("\u00a0", " ")
        words = shlex.split(use(document, layer))
        asked = command.build_parser().parse_args(words[3:])
        assert asked.second_moment == layer["file"] and asked.layer == (layer["layer"],)
        assert f"## Block {layer['layer']}" in markdown(document)
    hostile = document | {"model": "<script>alert(1)</script>", "command": "</pre><b>"}
    assert "<script>alert" not in render(hostile) and "</pre><b>" not in render(hostile)
    del hostile["layers"][0]["convergence"], hostile["run"]
    assert render(hostile).count("<svg") == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--layers", "one"], "is not a block"),
        (["--layers", "9"], "layer 9 is out of range"),
        (["--layers", "1,2", "-o", "c.safetensors"], r"several layers need \{layer\}"),
        (["--text", "absent.txt"], "cannot read the text"),
        (["--max-tokens", "0"], "1 or more"),
        (["--row-length", "999"], "more than the 128"),
        (["--ridge", "much"], "--ridge must be"),
        (["--import-npz", "absent.npz"], "cannot read the statistics file"),
        (["--merge", "a.safetensors"], "there is no second moment file"),
        (["-o", "/nowhere/at/all"], "there is no directory"),
    ],
)
def test_mistakes_are_user_errors(
    change: list[str], complaint: str, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        main([*words(files, tmp_path / "c-{layer}.safetensors"), *change])
    assert not list(tmp_path.iterdir())
