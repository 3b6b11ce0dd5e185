"""Wilson's interval against the equation that defines it."""

import pytest

from rome_diagnosis.shares import wilson


def test_wilson_against_its_defining_equation() -> None:
    for share, n in ((0.0, 5), (0.3, 10), (1.0, 7), (0.5, 1)):
        for end in wilson(share, n):
            if 0 < end < 1:
                z = abs(share - end) / (end * (1 - end) / n) ** 0.5
                assert z == pytest.approx(1.959964, rel=1e-6)
