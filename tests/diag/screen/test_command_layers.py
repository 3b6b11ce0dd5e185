"""``python -m diag.screen --layer 0,1``: one table of several blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from diag.screen.command import main
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError
from tests.diag.screen.test_api_layers import rows_at


def test_the_command_takes_several_blocks(
    place: Path, tiny_dir: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(place / "edits.jsonl"), "-o", str(tmp_path / "t.parquet"), "--n-prefixes=2"]
    words += [f"--model={tiny_dir('gpt2')}", "--second-moment=identity"]
    target = tmp_path / "t.json"
    assert main([*words, "--layer=0,1", f"--json={target}"]) == 0
    assert "ROME, block by block" in capsys.readouterr().out
    document = json.loads(target.read_text())
    assert [row["layer"] for row in document["layers"]] == [0, 1]
    assert "--layer=0,1" in document["command"]
    risks = sum(
        row["groups"]["all"]["editors"][PUBLISHED]["verdicts"]["collapse_risk"]
        for row in document["layers"]
    )
    assert main([*words, "--layer=0,1", "--quiet", "--fail-on=collapse_risk"]) == int(risks > 0)
    for wrong, complaint in (
        (["--layer=0,99"], "99"),
        (["--layer=1,1"], "names a block twice"),
        (["--layer=0,x"], "is not a block"),
        (["--layer=all", "--forecast"], "--forecast takes one block"),
        (["--layer=all", f"--riskiest={tmp_path / 'r.jsonl'}"], "--riskiest takes one block"),
        (["--layer=all", f"--second-moment={place / 'c-0.safetensors'}"], r"put \{layer\}"),
    ):
        with pytest.raises(UserError, match=complaint):
            main([*words, *wrong, "--quiet"])


def test_a_method_s_file_counts_at_several_blocks_as_at_one(
    place: Path, tiny_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "rome.json"
    file.write_text('{"alg_name": "ROME", "v_num_grad_steps": 3, "v_lr": 0.001}')
    words = [str(place / "edits.jsonl"), "--n-prefixes=2", "--quiet", f"--hyperparameters={file}"]
    words += [f"--model={tiny_dir('gpt2')}", "--second-moment=identity"]
    for layers in ("0", "0,1"):
        main([*words, f"--layer={layers}", f"-o={tmp_path / layers}.parquet"])
    screened = pq.read_table(tmp_path / "0.parquet").to_pylist()
    among = rows_at(tmp_path / "0,1.parquet", 0)
    alone, also = ([row["expected_share_rome"] for row in of] for of in (screened, among))
    assert also == [share and pytest.approx(share, rel=1e-5) for share in alone]
    assert min(share for share in alone if share is not None) < 1
