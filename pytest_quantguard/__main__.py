"""`python -m pytest_quantguard` is `quantguard`."""

import sys

from pytest_quantguard.cli.main import main

sys.exit(main())
