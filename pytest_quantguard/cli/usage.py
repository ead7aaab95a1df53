"""Wrong usage that only shows once the model is read; exits like the parser's own errors."""

from pytest_quantguard.errors import QuantguardError


class UsageError(QuantguardError):
    """The arguments of a command do not go together, or do not fit the model."""
