"""What library calls and commands take where nobody says otherwise, and what they refuse.

Nothing here knows a command line: :mod:`rome_diagnosis.options` does.
"""

from __future__ import annotations

import math
from typing import Literal

from rome_diagnosis.errors import UserError

DType = Literal["float32", "float16", "bfloat16", "float64"]
DTYPES: tuple[DType, ...] = ("float32", "float16", "bfloat16", "float64")
Engines = Literal["auto", "general", "fast"]
ENGINES: tuple[Engines, ...] = ("auto", "general", "fast")
Autocast = Literal["bfloat16"]  # a GPU multiplies in it several times as fast as in float32
AUTOCAST: tuple[Autocast, ...] = ("bfloat16",)
N_PREFIXES = 20
LARGEST_SEED = 2**32 - 1  # of numpy's and scikit-learn's generators
LARGEST_COUNT = 2**31 - 1  # more than there can be of anything
# Relative half width of the ratio of perplexities' 95% interval at which texts suffice.
PRECISION = 0.1
GENERATED_TOKENS = 40
CLAMP_FACTOR = 4.0  # of ROME's published hyper-parameters
WORSE = {
    "collapse_risk": ("collapse_risk",),
    "damage_risk": ("damage_risk", "collapse_risk"),
    "unclear": ("unclear", "damage_risk", "collapse_risk"),
}


def check_clamp(factor: float) -> float:
    """Refuses a clamp factor that is not a finite number above 0.

    Args:
        factor: The factor.

    Returns:
        The factor.

    Raises:
        UserError: If it is not.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise UserError(f"the clamp factor must be a finite number above 0, not {factor}")
    return factor
