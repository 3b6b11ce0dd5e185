"""How well a share is known: what is judged by it and what is shown of it agree."""

import math


def wilson(share: float, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Args:
        share: Observed, from 0 to 1.
        n: Number of trials the share is of; 1 or more.
        z: Normal quantile; 95% coverage by default.

    Returns:
        Low and high end (Wilson 1927).
    """
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
