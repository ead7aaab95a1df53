"""The command line `quantguard`: `main`, and one module per command."""
