"""``python -m diag.keys --layer 0,1``: the command of one edit at several blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diag.keys import command
from rome_diagnosis.errors import UserError


def test_the_command_takes_several_blocks(tiny_dir: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "sweep.json"
    words = ["--subject=Apple", "--prompt={} was", f"--model={tiny_dir('gpt2')}", "--quiet"]
    words += ["--second-moment=identity"]
    assert command.main([*words, "--layer=0,1", f"--json={target}"]) == 0
    document = json.loads(target.read_text())
    assert document["schema"] == "diag.sweep/1"
    assert "--layer 0,1" in document["command"]
    assert [row["layer"] for row in document["layers"]] == [0, 1]
    with pytest.raises(UserError, match="takes one block"):
        command.main([*words, "--layer=all", f"--save-tensors={tmp_path / 'k.safetensors'}"])
    for wrong, complaint in (("0,99", "99"), ("0,x", "is not a block")):
        with pytest.raises(UserError, match=complaint):
            command.main([*words, f"--layer={wrong}"])
