"""Run coremltools' own tests against the portable engine: `run.py [options and test ids for pytest]`.

Without an option it runs all of them; with `--conformance-sample=N` a fixed part. See docs/conformance.md.
"""

import importlib.util
import os
import sys
from pathlib import Path

from families import FILES

ENVIRONMENT = {
    # Workers run side by side, so each computes on one thread.
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    # With these, numpy sorts equal values in another order than on the machines the tests were written on, and the
    # expected values of top-k depend on it.
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX AVX2",
    "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
    "RUN_BACKWARD_COMPATIBILITY": "1",
}


def main() -> None:
    here = Path(__file__).parent
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        sys.exit("coremltools is not installed; install the dependency group conformance")
    package = Path(found.origin).parent
    tests = [argument for argument in sys.argv[1:] if (package / argument.partition("::")[0]).exists()]
    arguments = [argument for argument in sys.argv[1:] if argument not in tests]
    arguments += [str(package / test) for test in tests or FILES]
    options = ["-p", "coremltools_tests", "-c", str(here / "conformance.ini"), "--rootdir", str(package)]
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *options, *arguments])


main()
