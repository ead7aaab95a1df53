"""A share: a count out of a total that reads as a number and explains itself."""

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
