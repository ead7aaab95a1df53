"""Exact statistics of shares and of paired answers."""

import math

Z_95 = 1.959963984540054

SIGNIFICANCE = 0.05
"""A difference counts as real when chance alone would make one as large in fewer than 5 of 100 cases."""


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = count / total
    squared = Z_95 * Z_95
    center = share + squared / (2 * total)
    spread = Z_95 * math.sqrt(share * (1 - share) / total + squared / (4 * total * total))
    scale = 1 + squared / total
    # At 0 and 1 the interval ends exactly there; rounding would leave it a little inside or outside.
    low = 0.0 if count == 0 else max(0.0, (center - spread) / scale)
    high = 1.0 if count == total else min(1.0, (center + spread) / scale)
    return low, high


def mcnemar_p(broken: int, fixed: int) -> float:
    """The two-sided exact McNemar test on paired answers.

    Where quantization neither helps nor harms, each changed verdict is as likely broken as fixed. The p-value is
    the probability of a split at least as uneven: twice the lower tail of the binomial distribution with
    probability one half. It is computed with whole numbers, so it is exact at any count.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", 1947.

    Args:
        broken: samples that only the float model answers right.
        fixed: samples that only the quantized model answers right.

    Returns:
        A probability between 0 and 1; 1 where no sample changed.
    """
    changed = broken + fixed
    ways = 1
    tail = 1
    for fewer in range(min(broken, fixed)):
        ways = ways * (changed - fewer) // (fewer + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << changed))


def smallest_resolvable_drop(total: int) -> float:
    """The smallest drop of accuracy that so many samples can tell from none, as a share of them.

    It is the best case: all changed verdicts are broken and none is fixed. Six broken ones are then the fewest
    that the exact McNemar test takes for more than chance (p = 2 / 2**6 = 0.031). With fewer than six samples
    the result is above 1: no drop can be told from chance.
    """
    broken = 1
    while mcnemar_p(broken, 0) >= SIGNIFICANCE:
        broken += 1
    return broken / total
