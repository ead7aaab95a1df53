"""How long loading a model takes, and how much memory.

Loads each MODEL (.mlmodel or .mlpackage) with the portable engine; without one, four networks of 50 MB that are
made here: both kinds, with float32 and float16 weights. Each run is a process of its own. The seconds are those of
`load_model` alone, the median of the runs. The memory is the peak of the resident memory minus what it was before,
when all libraries were imported, in multiples of the model's size.

    python benchmarks/loading.py --runs 5 food.mlmodel
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.model import load_model

MOST_SECONDS, MOST_TIMES_SIZE = 1.5, 3.0
MADE_BYTES = 50_000_000
# Bits per weight and suffix.
MADE = [(32, ".mlmodel"), (16, ".mlmodel"), (32, ".mlpackage"), (16, ".mlpackage")]
# Channels and kernel size of the stem and the stages, as in ResNet; the last stage is repeated to reach the size.
STEM, STAGES, CLASSES = (3, 64, 7), (64, 128, 256, 512), 1000


def main() -> int:
    """Print a line per model; the exit code says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--task", choices=["load", "make"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task == "load":
        print(json.dumps(measure(arguments.models[0])))
        return 0
    if arguments.task == "make":
        make_models(arguments.models[0])
        return 0
    print(f"{'model':26} {'MB':>6} {'seconds':>8} {'peak MB':>8} {'times the size':>15}  load average")
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models
        if not models:
            run("make", Path(folder))
            models = [Path(folder) / f"float{bits}{suffix}" for bits, suffix in MADE]
        good = [print_line(model, arguments.runs) for model in models]
    return 0 if all(good) else 1


def print_line(model: Path, runs: int) -> bool:
    """False if a limit does not hold."""
    found = [json.loads(run("load", model)) for _ in range(runs)]
    size = found[0]["size"]
    seconds = statistics.median(one["seconds"] for one in found)
    peak = max(one["peak"] for one in found)
    figures = f"{size / 1e6:6.1f} {seconds:8.2f} {peak / 1e6:8.1f} {peak / size:15.2f}"
    print(f"{model.name:26} {figures}  {os.getloadavg()[0]:.2f}", flush=True)
    return bool(seconds <= MOST_SECONDS and peak <= MOST_TIMES_SIZE * size)


def run(task: str, path: Path) -> str:
    """Run this script in a new process; returns what it printed."""
    command = [sys.executable, __file__, "--task", task, str(path)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(path: Path) -> dict[str, float]:
    """Load a model; returns its size in bytes, the seconds and the bytes at the peak."""
    import_coremltools()
    import onnx.reference  # noqa: F401
    import onnxruntime  # noqa: F401

    import pytest_quantguard.runtime.portable.engines
    import pytest_quantguard.runtime.portable.ml_program.translator
    import pytest_quantguard.runtime.portable.neural_network.translator  # noqa: F401

    before, started = peak_bytes(), time.perf_counter()
    model = load_model(path, engine="portable")
    return {
        "seconds": time.perf_counter() - started,
        "peak": peak_bytes() - before,
        "size": model.size_bytes,
    }


def peak_bytes() -> int:
    """The largest resident memory of this process so far.

    On Linux not from `getrusage`, which begins with the memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def make_models(folder: Path) -> None:
    """Write the four networks."""
    ct = import_coremltools()
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    for bits, suffix in MADE:
        program = make_program(MADE_BYTES // (bits // 8))
        with quiet():
            if suffix == ".mlpackage":
                precision = ct.precision.FLOAT16 if bits == 16 else ct.precision.FLOAT32
                made = ct.convert(program, compute_precision=precision, skip_model_load=True)
            else:
                made = ct.convert(program, convert_to="neuralnetwork", skip_model_load=True)
                made = quantize_weights(made, 16) if bits == 16 else made
        save_model(made, folder / f"float{bits}{suffix}")


def make_program(weights: int) -> Any:
    """A classifier with about so many weights; its convolutions stand in a row, as in ResNet."""
    from coremltools.converters.mil import Builder

    shapes = [STEM]
    for before, channels in zip((STAGES[0], *STAGES), STAGES, strict=False):
        shapes += [(before, channels, 3), (channels, channels, 3)]
    left = weights - CLASSES * STAGES[-1] - sum(inputs * outputs * size**2 for inputs, outputs, size in shapes)
    shapes += [(STAGES[-1], STAGES[-1], 3)] * round(left / (STAGES[-1] ** 2 * 9))
    rng = np.random.default_rng(0)

    def build(image: Any) -> Any:
        x = image
        for inputs, outputs, size in shapes:
            scale = np.sqrt(2 / (inputs * size**2))
            weight = (rng.standard_normal((outputs, inputs, size, size)) * scale).astype(np.float32)
            stride = 2 if inputs != outputs else 1
            x = Builder.conv(x=x, weight=weight, strides=[stride, stride], pad_type="same")
            x = Builder.relu(x=x)
        x = Builder.squeeze(x=Builder.reduce_mean(x=x, axes=[2, 3], keep_dims=True), axes=[2, 3])
        dense = (rng.standard_normal((CLASSES, STAGES[-1])) / np.sqrt(STAGES[-1])).astype(np.float32)
        return Builder.linear(x=x, weight=dense, name="logits")

    return Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 3, 224, 224))])(build)


if __name__ == "__main__":
    sys.exit(main())
