"""Property tests try the same examples in every run, and a slow machine is no failure."""

from hypothesis import settings

settings.register_profile("quantguard", derandomize=True, deadline=None)
settings.load_profile("quantguard")
