"""Statistics of ROME or EasyEdit through the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diag.covariance.command import main
from probes.model.load import load
from probes.second_moment import choose, stored
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError
from tests.diag.covariance.words import words
from tests.probes.second_moment.test_imported import published


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
