"""Outputs that are no answer: NaN, infinite and constant ones are failures, never agreement."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.metrics.answers import Scores

NAMED_SAMPLES = 3


def check_scores(scores: Scores, sample_names: Sequence[str], model_name: str) -> None:
    """Refuse scores that are no answer.

    A vector whose entries are all equal says nothing about the sample. With two classes an honest model may tie
    now and then (half precision knows few numbers near 0.5), so there it is a failure only when every sample ties.

    Args:
        scores: shape (samples, places).
        sample_names: one per row.
        model_name: for the message, for instance `the quantized model of food.mlmodel`.

    Raises:
        PredictionError: a score is NaN or infinite, or a sample's scores are all equal.
    """
    low = scores.min(axis=1)
    high = scores.max(axis=1)
    refuse_samples(~(np.isfinite(low) & np.isfinite(high)), sample_names, model_name, "NaN or infinite scores")
    constant = low == high
    places = scores.shape[1]
    if places > 2 or (places == 2 and constant.all()):
        refuse_samples(constant, sample_names, model_name, "the same score for every class")


def is_finite(array: NDArray[Any]) -> bool:
    """Whether an output holds neither NaN nor infinity."""
    return bool(np.isfinite(array).all())


def is_constant(array: NDArray[Any]) -> bool:
    """Whether an output of several numbers holds only one value; a single number is never constant."""
    return array.size > 1 and bool((array == array.flat[0]).all())


def refuse_samples(bad: NDArray[np.bool_], sample_names: Sequence[str], model_name: str, what: str) -> None:
    """Raise PredictionError with the first of the bad samples, if there are any; `bad` has shape (samples,)."""
    count = int(np.count_nonzero(bad))
    if not count:
        return
    first = ", ".join(repr(sample_names[index]) for index in np.flatnonzero(bad)[:NAMED_SAMPLES])
    more = ", ..." if count > NAMED_SAMPLES else ""
    subject = model_name[:1].upper() + model_name[1:]
    raise PredictionError(
        f"{subject} answers {what} for {count} of {len(bad)} samples ({first}{more}); "
        "that is no answer, so nothing can be compared."
    )
