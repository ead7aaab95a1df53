"""Shares and deltas: counts out of a total that read as numbers and explain themselves."""

from typing import Any, Self

from pytest_quantguard.metrics.statistics import wilson_interval


class Share(float):
    """A count out of a total, as a float between 0 and 1.

    Being a float, it compares and formats as a number: `assert comparison.top1_agreement >= 0.98`. Its `repr`,
    which pytest shows when that fails, tells count, total and 95 % interval.
    """

    count: int
    total: int

    def __new__(cls, count: int, total: int) -> Self:
        """`count` out of `total`; total must be at least 1."""
        share = super().__new__(cls, count / total)
        share.count = int(count)
        share.total = int(total)
        return share

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.count, self.total)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval."""
        return wilson_interval(self.count, self.total)

    def __repr__(self) -> str:
        low, high = self.interval
        return f"{float(self):.4f} ({self.count} of {self.total}, 95 % interval {low:.4f} to {high:.4f})"


class Delta(float):
    """The difference of two counts out of the same total, as a float between -1 and 1; a drop is negative.

    It compares and formats as a number: `assert comparison.top1_accuracy_delta >= -0.01`. Its `repr` tells how
    many samples stand behind it.
    """

    count: int
    """Quantized count minus float count."""
    total: int

    def __new__(cls, count: int, total: int) -> Self:
        """A difference of `count` out of `total`; total must be at least 1."""
        delta = super().__new__(cls, count / total)
        delta.count = int(count)
        delta.total = int(total)
        return delta

    @classmethod
    def between(cls, before: Share, after: Share) -> Self:
        """`after` minus `before`, which share one total."""
        if before.total != after.total:
            raise ValueError(f"shares of {before.total} and of {after.total} samples have no common delta")
        return cls(after.count - before.count, after.total)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.count, self.total)

    def __repr__(self) -> str:
        if self.count == 0:
            return f"{float(self):.4f} (no change of {self.total})"
        direction = "fewer" if self.count < 0 else "more"
        return f"{float(self):+.4f} ({abs(self.count)} of {self.total} {direction})"
