"""The extreme eigenvalues are those of a full decomposition."""

from __future__ import annotations

import pytest
import torch

from probes.second_moment import spectrum
from probes.second_moment.moment import of_moment


def matrix(d: int, *, smallest: float, rank: int | None = None) -> torch.Tensor:
    """Positive semidefinite, with eigenvalues from ``smallest`` to 1 and zeros above ``rank``."""
    generator = torch.Generator().manual_seed(d)
    basis = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), d, dtype=torch.float64)
    values[d if rank is None else rank :] = 0.0
    made = (basis * values) @ basis.T
    return (made + made.T) / 2


@pytest.mark.parametrize("d", [1, 5, spectrum.SMALL, 130])
@pytest.mark.parametrize("smallest", [1e-1, 1e-6, 1e-12])
def test_they_are_those_of_a_full_decomposition(d: int, smallest: float) -> None:
    some = matrix(d, smallest=smallest)
    values = torch.linalg.eigvalsh(some)
    low, high, factor = spectrum.extremes(some)
    assert high == pytest.approx(float(values[-1]), rel=1e-9)
    # Rounding of the matrix itself moves each eigenvalue by ε times the largest.
    assert low == pytest.approx(float(values[0]), rel=1e-9, abs=d * spectrum.EPSILON)
    assert spectrum.extremes(some)[:2] == (low, high)
    if factor is not None:
        torch.testing.assert_close(factor @ factor.T, some)
        assert torch.equal(factor, factor.tril())
    assert (factor is None) == (d < spectrum.SMALL)


@pytest.mark.parametrize("d", [20, 130])
def test_singular_is_not_negative(d: int) -> None:
    some = matrix(d, smallest=0.5, rank=d // 2)
    assert abs(spectrum.extremes(some)[0]) <= d * spectrum.EPSILON
    with pytest.raises(ValueError, match="negative eigenvalue"):
        spectrum.extremes(some - 1e-9 * torch.eye(d))
    with pytest.raises(ValueError, match="negative eigenvalue"):
        spectrum.extremes(-some)


def test_the_matrix_is_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    some = matrix(130, smallest=1e-2)
    expected = torch.linalg.cholesky(some)
    moment = of_moment(some, source="here")
    monkeypatch.setattr(torch.linalg, "cholesky", lambda *_: pytest.fail("once more"))
    assert moment.ridge == 0.0
    torch.testing.assert_close(moment.factor, expected)
    monkeypatch.undo()
    singular = of_moment(matrix(130, smallest=0.5, rank=65), source="here")
    assert singular.ridge > 0.0
    torch.testing.assert_close(singular.factor @ singular.factor.T, singular.solved)


def test_the_start_is_not_orthogonal_to_what_is_sought() -> None:
    # Of a block matrix with two parts a start in one part would never see the other.
    some = torch.block_diag(matrix(70, smallest=0.5), 3.0 * matrix(70, smallest=1e-3))
    low, high, _ = spectrum.extremes(some)
    assert (low, high) == pytest.approx((3e-3, 3.0))
