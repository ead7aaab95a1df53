"""What to say about the name of an option that does not exist."""

import difflib
from collections.abc import Iterable

COREMLTOOLS_NAMES = {
    "nbits": "bits",
    "dtype": "bits= and unsigned=",
    "granularity": "per_tensor=, per_block= or group_size=",
    "block_size": "per_block=, or prune_block= with sparsity=",
    "enable_per_channel_scale": "per_channel_scale=",
    "target_sparsity": "sparsity=",
    "minimum_sparsity_percentile": "minimum_sparsity=",
    "dim": "prune_dim=",
}
"""Parameters of coremltools' configurations that are called otherwise here."""


def advice(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name, and all names there are: `did you mean bits? valid are bits, mode.`"""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    hint = f"use {COREMLTOOLS_NAMES[name]}; " if name in COREMLTOOLS_NAMES else hint
    return f"{hint}valid are {', '.join(names)}."
