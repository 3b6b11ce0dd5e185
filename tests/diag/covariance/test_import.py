"""Statistics of ROME or EasyEdit through the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diag.covariance.command import main
from probes.model.load import load
from probes.second_moment import choose, stored
from probes.second_moment import imported as moment_files
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError
from tests.diag.covariance.words import words


def published(path: Path, moment: SecondMoment, **changes: Any) -> Path:
    """Statistics as the reference's ``save_cached_state`` writes them."""
    n = moment.provenance.n_tokens
    values = {
        "mom2.constructor": "util.runningstats.SecondMoment()", "mom2.count": n,
        "mom2.mom2": (moment.moment * n).float().numpy(),
        "constructor": "util.runningstats.CombinedStat()", "sample_size": 100000,
    }  # fmt: skip
    np.savez(path, **(values | changes))
    return path


def test_published_statistics_are_imported_and_held_to_their_layer(
    files: Path, made: dict[int, SecondMoment], tmp_path: Path
) -> None:
    name = "transformer.h.1.mlp.c_proj_float32_mom2_100000.npz"
    path = published(tmp_path / name, made[1])
    output = tmp_path / "c.safetensors"
    arguments = [*words(files, output, "1"), "--import-npz", str(path)]
    assert main(arguments) == 0
    imported = stored.load_moment(output)
    assert torch.allclose(imported.moment, made[1].moment, rtol=1e-5, atol=1e-7)
    assert imported.provenance.n_tokens == made[1].provenance.n_tokens
    assert imported.provenance.row_length is None
    assert imported.background.residual_norm == pytest.approx(made[1].background.residual_norm)
    choose.check_moment(imported, load(files / "model"), 1)
    with pytest.raises(UserError, match="is of layer 1 by its name, not 2"):
        main([*words(files, output, "2"), "--import-npz", str(path)])
    nameless = published(tmp_path / "stats.npz", made[1])
    with pytest.raises(UserError, match="is not of layer 2"):
        main([*words(files, output, "2"), "--import-npz", str(nameless)])


def test_foreign_and_dangerous_statistics_are_refused(
    made: dict[int, SecondMoment], tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    moment = made[1]
    asymmetric = torch.triu(torch.ones(8, 8)).numpy()
    cases = {
        "pickle": {"mom2.mom2": np.array([Trap()], dtype=object)},
        "shape": {"mom2.mom2": np.zeros((3, 4))},
        "empty": {"mom2.count": 0},
        "nan": {"mom2.mom2": np.full((4, 4), np.nan)},
        "asymmetric": {"mom2.mom2": asymmetric},
    }
    for name, change in cases.items():
        with pytest.raises(UserError):
            moment_files.read_npz(published(tmp_path / f"{name}.npz", moment, **change))
    assert not (tmp_path / "sprung").exists()
    # The trap works where pickles are allowed.
    with np.load(tmp_path / "pickle.npz", allow_pickle=True) as file:
        file["mom2.mom2"]
    assert (tmp_path / "sprung").exists()
    (tmp_path / "text.npz").write_text("no statistics")
    with pytest.raises(UserError, match=r"is no \.npz file of statistics"):
        moment_files.read_npz(tmp_path / "text.npz")
    np.savez(tmp_path / "mean.npz", mean=np.zeros(3))
    with pytest.raises(UserError, match="expected mom2"):
        moment_files.read_npz(tmp_path / "mean.npz")
