"""The process that opens damaged models; its parent watches whether it survives.

Reads `PATH` lines from standard input and writes one JSON line each: what came of it, and its memory.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.errors import QuantguardError
from pytest_quantguard.models.description import ArrayFeature, ImageFeature

LARGEST_INPUT = 1_000_000
ADDRESS_SPACE_BYTES = 12 << 30


def open_and_predict(path: Path) -> dict[str, Any]:
    """`answer`, `error` with the message, or `bug` with what escaped."""
    try:
        model = load_model(path, engine="portable")
        inputs = {feature.name: _value(feature) for feature in model.description.inputs}
        outputs = model.outputs(inputs)
        names = {feature.name for feature in model.description.outputs}
        unknown = set(outputs.arrays) - names
        return {"kind": "bug", "message": f"unknown outputs {unknown}"} if unknown else {"kind": "answer"}
    except QuantguardError as error:
        message = str(error)
        clear = 20 <= len(message) <= 2000 and "\n" not in message and "Traceback" not in message
        return {"kind": "error" if clear else "bug", "message": message[:400]}
    # Whatever else escapes is what the hunt is for; it is reported with its place.
    except Exception as error:
        trace, place = error.__traceback__, ""
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return {"kind": "bug", "message": f"{type(error).__name__} at {place}: {str(error)[:300]}"}


def _value(feature: Any) -> Any:
    rng = np.random.default_rng(0)
    if isinstance(feature, ImageFeature):
        width, height = feature.width, feature.height
        if not 0 < width * height <= LARGEST_INPUT:
            width = height = 8
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    if isinstance(feature, ArrayFeature):
        shape = tuple(feature.shape)
        small = all(size >= 0 for size in shape) and np.prod([float(size) for size in shape]) <= LARGEST_INPUT
        return rng.normal(size=shape if small else (2,)).astype(np.float32)
    return 1.0


def _peak_bytes() -> int:
    """The highest memory of this process so far; Linux only (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Serve until standard input ends."""
    # Far above the limit that is checked; keeps the machine alive should that be passed.
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    for line in sys.stdin:
        path = Path(json.loads(line))
        if path.name == "warm up":
            print(json.dumps({"kind": "ready", "peak": _peak_bytes()}), flush=True)
            continue
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to what is in use now
        before = _peak_bytes()
        found = open_and_predict(path)
        print(json.dumps({**found, "growth": _peak_bytes() - before}), flush=True)


if __name__ == "__main__":
    main()
