"""How much memory a model may ask for. A model is untrusted: a few bytes of it can ask for any size."""

import math
from collections.abc import Sequence

MEMORY_LIMIT_BYTES = 4 << 30
"""What the tensors of all predictions that run at the same time may take together; weights do not count."""


def fits(shape: Sequence[int]) -> bool:
    """Whether a tensor of numbers of at most 8 bytes stays within the limit."""
    return 8 * math.prod(shape) <= MEMORY_LIMIT_BYTES
