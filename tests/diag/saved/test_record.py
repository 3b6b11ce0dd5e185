"""Edits that were saved are taken back, or nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diag.apply import apply
from diag.saved import record
from diag.saved.record import undo
from rome_diagnosis.errors import UserError
from tests.diag.saved.quick import QUICK, original, weights


def test_undo_refuses_weights_that_were_changed_since(tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    result = apply("Apple", output=folder, **QUICK)
    state = weights(folder)
    name = result.document["weight"]
    state[name][0, 0] += 1.0
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="changed after"):
        undo(folder)
    assert torch.equal(weights(folder)[name], state[name])


def test_an_interrupted_undo_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    result = apply("Apple", output=folder, **QUICK)
    from safetensors.torch import save_file

    name = str(result.document["weight"])
    state = weights(folder) | {name: original()[name]}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / record.FACTORS).unlink()  # as after a kill between two removals
    assert undo(folder) == name
    assert not [path.name for path in folder.iterdir() if path.name.startswith("MODEL_EDITS")]


def test_undo_of_another_model_s_weights_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    result = apply("Apple", output=folder, **QUICK)
    from safetensors.torch import save_file

    name = str(result.document["weight"])
    rest = {key: value for key, value in weights(folder).items() if key != name}
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"there is no '{name}'"):
        undo(folder)
