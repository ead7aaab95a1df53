"""Exact statistics of shares and of paired answers."""

import math

Z_95 = 1.959963984540054


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = count / total
    squared = Z_95 * Z_95
    center = share + squared / (2 * total)
    spread = Z_95 * math.sqrt(share * (1 - share) / total + squared / (4 * total * total))
    scale = 1 + squared / total
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
