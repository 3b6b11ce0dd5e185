"""The screening command: rows keep their order, nothing is lost or hidden."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from diag.screen import screen
from diag.screen.command import main
from probes.keys import many_edits
from probes.model.load import load
from probes.request.records import read_edits
from probes.second_moment import stored
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.diag.screen.test_shard import solvable

ROOT = Path(__file__).parents[3]
BAD_LINES = [
    '{"subject": "Apple", "prompt": "Pears are"}',
    '{"subject": 3, "prompt": "{} is"}',
    '{"subject": "Apple", "prompt":',
    "[1, 2]",
    '{"subject": "App", "prompt": "Apple is"}',
    '{"subject": "Apple", "prompt": "{} is", "case_id": "\\ud800", "target_new": "X"}',
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with mistakes in it, a tiny model and its second moment."""
    folder = tmp_path_factory.mktemp("screen")
    words = ["Apple", "Paris", "Danielle Darrieux", "Space Needle", "Steve Jobs", "Seattle"]
    good = [
        json.dumps({"case_id": i, "subject": word, "prompt": prompt, "target_new": "X"})
        for i, (word, prompt) in enumerate(
            (word, prompt)
            for prompt in ("{} is", "{} was founded by", "I think {} is", "The capital, {} lies")
            for word in words
        )
    ]
    lines = [*good[:3], BAD_LINES[0], *good[3:9], *BAD_LINES[1:4], *good[9:], *BAD_LINES[4:]]
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    model = load(tiny.save("gpt2", folder / "model"))
    stored.save(solvable(model, 1), folder / "c.safetensors")
    return folder


def words(files: Path, output: Path) -> list[str]:
    return [
        str(files / "edits.jsonl"), "-o", str(output), "--model", str(files / "model"),
        "--layer", "1", "--second-moment", str(files / "c.safetensors"), "--n-prefixes", "4",
    ]  # fmt: skip


def table(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(path).to_pylist())


@pytest.fixture(scope="module")
def screened(files: Path) -> Path:
    """The command, with every output."""
    arguments = [
        *words(files, files / "out.parquet"), "--json", str(files / "out.json"),
        "--riskiest", str(files / "risky.jsonl"), "--n-riskiest", "5",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as shown:
        patch.setenv("COLUMNS", "200")
        assert main(arguments) == 0
    (files / "out.txt").write_text(shown.getvalue())
    return files / "out.parquet"


def test_the_table_keeps_the_contract_and_the_order(screened: Path, files: Path) -> None:
    import pyarrow.parquet as pq

    promised = (
        "row, case_id, subject, prompt, token, token_index, is_first_token, d_rome, d_c_rome, "
        "d_p_rome, rho, length_ratio, whitened_cosine, bound_rome, bound_c_rome, "
        "relative_bound_rome, verdict, error"
    )
    names = pq.read_schema(screened).names
    # Columns may be added to those that others parse; none may go or change places.
    assert [name for name in names if name in promised.split(", ")] == promised.split(", ")
    added = {"relative_bound_first_tokens_rome", "expected_share_rome"}
    assert set(names) - set(promised.split(", ")) == added
    rows = table(screened)
    lines = (files / "edits.jsonl").read_text().splitlines()
    assert [row["row"] for row in rows] == list(range(len(lines)))
    for row, line in zip(rows, lines, strict=True):
        if row["error"] is None:
            record = json.loads(line)
            assert row["subject"] == record["subject"]
            assert row["rho"] == pytest.approx(row["d_rome"] / row["d_c_rome"])
            assert row["rho"] == pytest.approx(row["length_ratio"] * row["whitened_cosine"])
            assert row["is_first_token"] == (row["token_index"] == 0)
    assert sum(row["is_first_token"] is True for row in rows) > 0
    assert not (files / "out.parquet.parts").exists()


def test_malformed_rows_are_named_with_their_line(screened: Path, files: Path) -> None:
    lines = (files / "edits.jsonl").read_text().splitlines()
    rows = table(screened)
    document = json.loads((files / "out.json").read_text())
    for bad in BAD_LINES[:5]:
        row = rows[lines.index(bad)]
        assert row["error"].startswith(f"line {lines.index(bad) + 1}: ")
        assert row["verdict"] is row["rho"] is None
        assert {"row": row["row"], "error": row["error"]} in document["errors"]
    assert document["summary"]["errors"] == 5
    assert rows[lines.index(BAD_LINES[5])]["error"] is None  # a strange case_id harms nothing
    assert document["summary"]["screened"] == len(lines) - 5
    assert "line 4: the subject 'Apple' is not in the prompt" in (files / "out.txt").read_text()


def test_refusing_happens_before_anything_is_made(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 4: the subject 'Apple' is not in the prompt"):
        main([*words(files, tmp_path / "out.parquet"), "--on-error", "refuse"])
    assert not list(tmp_path.iterdir())


def test_the_riskiest_cases_are_ready_to_be_verified(screened: Path, files: Path) -> None:
    found = read_edits(files / "risky.jsonl")
    assert not found.refused
    rows = [row for row in table(screened) if row["error"] is None]
    expected = sorted(rows, key=lambda row: -row["relative_bound_rome"])[:5]
    assert [case.request.subject for case in found.cases] == [row["subject"] for row in expected]
    assert {case.request.target_new for case in found.cases} == {"X"}


def test_the_forecast_in_order_is_the_one_of_a_list(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diag.sequence import sequence

    summary = tmp_path / "summary.json"
    main([*words(files, tmp_path / "t.parquet"), "--forecast", "--json", str(summary)])
    shown = capsys.readouterr().out
    listed = json.loads(summary.read_text())["in_order"]
    alone = sequence(
        files / "edits.jsonl", model=files / "model", layer=1, n_prefixes=4,
        second_moment=str(files / "c.safetensors"), quiet=True,
    ).document  # fmt: skip
    assert listed["edits"] == len(alone["edits"]) > 20
    assert listed["advice"] == alone["advice"]
    for name, reach in listed["editors"].items():
        assert reach == {key: alone["editors"][name][key] for key in reach}
    assert "One after another, in this order" in shown
    main([*words(files, tmp_path / "u.parquet"), "--json", str(other := tmp_path / "v.json")])
    assert "in_order" not in json.loads(other.read_text())  # only where it is asked for
    assert "One after another" not in capsys.readouterr().out


def test_shards_and_batches_change_nothing(
    screened: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(many_edits.TOKENS, "cpu", 5)
    monkeypatch.setattr("diag.screen.run.shard_size", lambda *_: 7)
    result = screen(
        str(files / "edits.jsonl"), str(tmp_path / "out.parquet"), model=load(files / "model"),
        layer=1, second_moment=str(files / "c.safetensors"), n_prefixes=4,
    )  # fmt: skip
    assert_same_rows(table(tmp_path / "out.parquet"), table(screened))
    assert len(result.to_pandas()) == result.document["summary"]["n"]
    assert "30 rows" in repr(result)
    assert "edits.jsonl" in result._repr_html_()


def assert_same_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            same = pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            assert row[name] == same, (row["row"], name)


def test_killed_it_goes_on(
    screened: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, signal, sys\n"
        "from diag.screen import run as screen_run, table as parts\n"
        "screen_run.shard_size = lambda *_: 7\n"
        "write = parts.Parts.write\n"
        "def die(self, index, rows):\n"
        "    if index < 2: return write(self, index, rows)\n"
        "    (self.folder / '000002.half').write_bytes(b'PAR1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "parts.Parts.write = die\n"
        "from diag.screen.command import main\n"
        "main(sys.argv[1:])\n"
    )
    output = tmp_path / "out.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", script, *words(files, output), "--quiet"],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=300,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    parts = sorted((tmp_path / "out.parquet.parts").iterdir())
    names = [path.name.partition("-")[0] for path in parts]
    assert names == ["000000", "000001", "000002.half", "settings.json"]
    # A part that was damaged meanwhile is made again.
    damaged = bytearray(parts[1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    parts[1].write_bytes(damaged)
    monkeypatch.setattr("diag.screen.run.shard_size", lambda *_: 7)
    with pytest.raises(UserError, match=r"other settings \(prefixes\)"):
        main([*words(files, output)[:-1], "3", "--quiet"])
    summary = tmp_path / "out.json"
    assert main([*words(files, output), "--quiet", "--json", str(summary)]) == 0
    assert_same_rows(table(output), table(screened))
    assert json.loads(summary.read_text())["run"]["resumed"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.parquet"]


def test_a_lost_part_is_noticed(files: Path, tmp_path: Path) -> None:
    from diag.screen.table import Parts

    parts = Parts(tmp_path / "t.parquet", {"a": 1})
    parts.write(0, [{"row": 0}, {"row": 1}])
    parts.write(1, [{"row": 3}])
    with pytest.raises(UserError, match="does not begin with row 2"):
        parts.merge([0, 1], 3)
    parts.write(1, [{"row": 2}])
    with pytest.raises(UserError, match=r"part 2 .* is missing"):
        parts.merge([0, 1, 2], 4)
    with pytest.raises(UserError, match="3 rows instead of 4"):
        parts.merge([0, 1], 4)
    parts.merge([0, 1], 3)
    assert [row["row"] for row in table(tmp_path / "t.parquet")] == [0, 1, 2]


def test_two_processes_give_the_rows_of_one(screened: Path, files: Path, tmp_path: Path) -> None:
    script = tmp_path / "screen.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from diag.screen import run as screen_run\n"
        "from rome_diagnosis import command\n"
        "screen_run.shard_size = lambda *_: 7\n"
        "from diag.screen.command import main\n"
        "command.run(main)\n"
    )
    output = tmp_path / "out.parquet"
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(script), *words(files, output), "--json", str(tmp_path / "out.json"),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verdicts") == 1
    found, expected = table(output), table(screened)
    assert [row["verdict"] for row in found] == [row["verdict"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert row[name] == (
                pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            )
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["run"]["processes"] == 2
    assert document["run"]["measured"] == len(expected)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["nowhere.json"], "cannot read the edits nowhere.json"),
        (["{edits}", "-o", "/nowhere/at/all.parquet"], "there is no directory"),
        (["{edits}", "--layer", "9"], "layer 9 is out of range"),
        (["{edits}", "--n-riskiest", "-1"], "0 or more"),
    ],
)
def test_mistakes_are_one_line_and_code_two(
    change: list[str], complaint: str, files: Path, tmp_path: Path
) -> None:
    first, *rest = (word.replace("{edits}", str(files / "edits.jsonl")) for word in change)
    with pytest.raises(UserError, match=complaint):
        main([first, *words(files, tmp_path / "out.parquet")[1:], *rest, "--quiet"])


def test_a_mistake_before_the_first_row_leaves_no_bar(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = str(files / "edits.jsonl")
    with pytest.raises(UserError, match="neither a directory here"):
        main([edits, "-o", str(tmp_path / "out.parquet"), "--model", "nowhere"])
    assert capsys.readouterr() == ("", "")
