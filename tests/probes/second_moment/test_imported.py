"""Other people's statistics: right ones are taken, however their count and type are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probes import bundled
from probes.model.loaded import LoadedModel
from probes.second_moment import imported, stored
from probes.second_moment.moment import SecondMoment, of_moment
from rome_diagnosis.errors import UserError


@pytest.fixture(scope="module")
def shipped() -> SecondMoment:
    (path,) = (bundled.DATA / "second_moments").glob("*.safetensors")
    return stored.load_moment(path)


def statistics(path: Path, total: np.ndarray, count: int) -> imported.Published:
    np.savez(path, **{"mom2.mom2": total, "mom2.count": count})
    return imported.read_npz(path)


def test_the_shipped_statistics_are_right_with_any_count(
    shipped: SecondMoment, bundled_model: LoadedModel, tmp_path: Path
) -> None:
    # Keys of the bundled model are heavy-tailed: the median one is short in the metric of all.
    layer, background = bundled.edit_layer(), shipped.background
    for count in (1, 1000):
        found = statistics(tmp_path / "c.npz", shipped.moment.numpy() * count, count)
        moment = imported.adopt(found, bundled_model, layer, background, name="c.npz")
        assert torch.allclose(moment.moment, shipped.moment, rtol=1e-12)
        assert moment.provenance is not None and moment.provenance.n_tokens == count
    for wrong in (1e-2, 1e2):
        found = statistics(tmp_path / "c.npz", shipped.moment.numpy() * wrong, 1)
        with pytest.raises(UserError, match=r"is not of layer .* mean square"):
            imported.adopt(found, bundled_model, layer, background, name="c.npz")


def test_rounding_to_float32_leaves_a_second_moment() -> None:
    keys = torch.randn(60, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = keys.T @ keys / len(keys)  # of rank 60
    rounded = exact.float().double()
    lowest = float(torch.linalg.eigvalsh(rounded)[0])
    assert lowest < -1e-9  # more than float64 can explain
    with pytest.raises(ValueError, match="negative"):
        of_moment(rounded, source="test")
    nearest = of_moment(imported.positive(rounded), source="test").moment
    assert float((nearest - exact).abs().max()) < 1e-6
    # The nearest matrix that has none: as far away as its negative eigenvalues are long.
    negative = torch.linalg.eigvalsh(rounded).clamp(max=0.0)
    assert float((nearest - rounded).norm()) == pytest.approx(float(negative.norm()), rel=1e-3)
    # What is positive, and what rounding cannot explain, stays as it is.
    for same in (exact + torch.eye(100), exact - 0.01 * torch.eye(100)):
        assert torch.equal(imported.positive(same), same)


@pytest.mark.parametrize(
    ("total", "count"),
    [
        (np.eye(3) * 1j, 5), (np.eye(3, dtype=int), 5), (np.eye(3), 0), (np.eye(3), -1),
        (np.eye(3), np.inf), (np.eye(3), [1, 2]), (np.float64(3.0), 5), (-np.eye(3), 5),
    ],
)  # fmt: skip
def test_what_is_no_sum_of_squares_is_refused(
    total: np.ndarray, count: int, tmp_path: Path
) -> None:
    assert statistics(tmp_path / "c.npz", np.eye(3), 5).n_tokens == 5
    with pytest.raises(UserError) as refused:
        statistics(tmp_path / "c.npz", total, count)
    assert "\n" not in str(refused.value)


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


def test_foreign_and_dangerous_statistics_are_refused(
    estimated: SecondMoment, tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

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
            imported.read_npz(published(tmp_path / f"{name}.npz", estimated, **change))
    assert not (tmp_path / "sprung").exists()
    # The trap works where pickles are allowed.
    with np.load(tmp_path / "pickle.npz", allow_pickle=True) as file:
        file["mom2.mom2"]
    assert (tmp_path / "sprung").exists()
    (tmp_path / "text.npz").write_text("no statistics")
    with pytest.raises(UserError, match=r"is no \.npz file of statistics"):
        imported.read_npz(tmp_path / "text.npz")
    np.savez(tmp_path / "mean.npz", mean=np.zeros(3))
    with pytest.raises(UserError, match="expected mom2"):
        imported.read_npz(tmp_path / "mean.npz")
