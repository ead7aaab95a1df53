"""The notes under the table at the end of a run: each once, however many tests it is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_quantguard.gate.wording import clean, percent, scheme_title

Result = Mapping[str, Any]

MOST_COMPRESSED = 0.9
"""Where less of a model is compressed, a note says so unasked."""
REASONS = 3
"""How many reasons a line names; those with the most weights."""


def note_lines(results: Sequence[Result], verbosity: int = 0) -> list[str]:
    """What the baselines, the metrics and the compression of a run ask to be known.

    Args:
        results: sorted results of the run (see `gate/result.py`).
        verbosity: pytest's `-v` count; from 1 on every model and scheme has a line on its compression.
    """
    tests: dict[str, set[str]] = {}
    for result in results:
        for note in (*result["notices"], *result["notes"]):
            tests.setdefault(clean(note), set()).add(result["node_id"])
    lines = [note + (f" ({len(node_ids)} tests)" if len(node_ids) > 1 else "") for note, node_ids in tests.items()]
    return [f"note: {line}" for line in (*lines, *_compression_lines(results, verbosity))]


def _compression_lines(results: Sequence[Result], verbosity: int) -> list[str]:
    """How much of a model is compressed; schemes of a model about which the same is to say share a line."""
    schemes: dict[tuple[str, str], dict[str, None]] = {}
    for result in results:
        compression = result["compression"]
        if compression is None or not compression["weights"]:
            continue
        share = compression["compressed"] / compression["weights"]
        if verbosity > 0 or share < MOST_COMPRESSED:
            text = _compression(compression, share, verbosity)
            schemes.setdefault((clean(result["model"]), text), {})[clean(scheme_title(result["scheme"]))] = None
    return [
        f"{model}, {next(iter(names)) if len(names) == 1 else f'{len(names)} schemes'}: {text}"
        for (model, text), names in schemes.items()
    ]


def _compression(compression: Mapping[str, Any], share: float, verbosity: int) -> str:
    text = f"{percent(share)} of the weights are compressed"
    if verbosity > 0:
        text += f", to {compression['bits_per_weight']:.2f} bits each"
    skipped = compression["skipped"]
    if not skipped:
        return text
    count = sum(tensors for _, tensors, _ in skipped)
    verb = "tensor is not" if count == 1 else "tensors are not"
    shown = [reason if len(skipped) == 1 else f"{reason}: {tensors}" for reason, tensors, _ in skipped[:REASONS]]
    more = ["others"] if len(skipped) > REASONS else []
    return f"{text}; {count} {verb} ({'; '.join([*shown, *more])})"
