"""The command: what is forecast is printed and saved; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diag.sequence.command import main
from probes.model.load import load
from probes.second_moment import stored
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.diag.screen.test_shard import solvable
from tests.diag.sequence.listing import write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list, a tiny model and its second moment."""
    folder = tmp_path_factory.mktemp("sequence")
    write(folder)
    (folder / "texts.txt").write_text("\n\n".join(tiny.TRAINING_TEXT[:12]))
    model = load(tiny.save("gpt2", folder / "model"))
    stored.save(solvable(model, 1), folder / "c.safetensors")
    return folder


def words(folder: Path) -> list[str]:
    return [
        str(folder / "edits.json"), "--model", str(folder / "model"), "--layer", "1",
        "--second-moment", str(folder / "c.safetensors"), "--n-prefixes", "3",
    ]  # fmt: skip


def test_the_forecast_is_printed_and_saved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "forecast.json"
    assert main([*words(folder), "--json", str(target), "--html", str(folder / "f.html")]) == 0
    found = json.loads(target.read_text())
    assert found["schema"] == "diag.sequence/1"
    assert found["command"].startswith("python -m diag.sequence")
    printed = capsys.readouterr().out
    assert "What to do" in printed and "nothing was edited" in printed
    (refused,) = found["refused"]
    assert f"record {refused['index'] + 1}: " in printed  # people count from 1
    assert not list(folder.glob("*.journal"))
    assert "How to repeat it" in (folder / "f.html").read_text()


def test_the_edits_are_made_and_their_journal_goes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "made.json"
    options = [
        "--perform", "--limit", "2", "--evaluations", "3", "--generated-tokens", "3", "--texts",
        str(folder / "texts.txt"), "--facts", str(folder / "edits.json"), "--method", "c_rome",
    ]  # fmt: skip
    assert main([*words(folder), *options, "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    assert [point["edits"] for point in found["checkpoints"]] == [1, 2]
    assert found["performance"]["made"] == 2
    assert "2 were made" in " ".join(capsys.readouterr().out.split())
    assert not list(folder.glob("*.journal"))


def test_a_method_is_tuned_and_makes_batches(folder: Path) -> None:
    target = folder / "memit.json"
    options = ["--method", "memit", "--weight", "8", "--batch", "5", "--json", str(target)]
    assert main([*words(folder), *options]) == 0
    found = json.loads(target.read_text())
    assert (found["method"], found["parameters"], found["batch"]) == ("memit", {"weight": 8.0}, 5)
    assert found["clamp_factor"] == 0.75  # MEMIT's own
    file = folder / "hyperparameters.json"
    file.write_text(json.dumps({"alg_name": "MEMIT", "layers": [1], "mom2_update_weight": 8}))
    options = ["--hyperparameters", str(file), "--batch", "5", "--json", str(target)]
    assert main([*words(folder), *options]) == 0
    again = json.loads(target.read_text())
    assert again["forecast"] == found["forecast"] and again["method"] == "memit"


def test_a_file_that_names_several_blocks_asks_for_one(folder: Path) -> None:
    file = folder / "blocks.json"
    file.write_text(json.dumps({"alg_name": "MEMIT", "layers": [0, 1], "mom2_update_weight": 8}))
    options = ["--hyperparameters", str(file)]
    assert main([*words(folder), *options]) == 0  # --layer chooses one
    some = [word for word in words(folder) if word not in ("--layer", "1")]
    with pytest.raises(
        UserError, match=r"in one block.*name 0, 1: choose one of them with --layer"
    ):
        main([*some, *options])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--batch", "0"], "must be 1 or more"),
        (["--weight", "8"], "rome has no parameter weight"),
        (["--method", "memit", "--weight", "0"], "nothing else to hold it back"),
        (
            ["--method", "memit", "--weight", "8", "--c-rome-target", "consistent"],
            "methods that subtract the mean value (c_rome, r_rome), not for memit",
        ),
        (["--c-rome-target", "consistent"], "not for rome: leave --c-rome-target out"),
        (["--journal", "j"], "--journal is for edits that are made: add --perform"),
        (["--save-after", "2"], "--save-after is for edits that are made"),
        (["--method", "memo"], "invalid choice"),
        (["--order", "sorted"], "invalid choice"),
        (["--perform", "--save-model", "m", "--save-after", "99"], "--save-after 99 is beyond"),
        (["--limit", "0"], "must be 1 or more"),
    ],
)
def test_mistakes_are_one_line(options: list[str], complaint: str, folder: Path) -> None:
    with pytest.raises(UserError) as refused:
        main([*words(folder), *options])
    assert complaint in str(refused.value)


def test_a_list_is_never_written_over(folder: Path) -> None:
    before = (folder / "edits.json").read_text()
    with pytest.raises(UserError, match="it is read as an input"):
        main([*words(folder), "--json", str(folder / "edits.json")])
    assert (folder / "edits.json").read_text() == before
