"""How much faster two cores run a model over a sample folder than one: decoding, cropping, predicting.

MODEL takes one image; FOLDER holds a folder of photos per label. Without them, a network with random weights and
photos of noise are made here. One and more workers take turns, round by round. "the machine" is how much faster
as many threads are that only compute, and share nothing: on a machine that is busy with other work, less than the
number of its cores.

    python benchmarks/scaling.py food.mlmodel samples/ --workers 2 --rounds 7
"""

import argparse
import hashlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pytest_quantguard.cores import available_cores
from pytest_quantguard.inputs import InputSet, make_inputs
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.outputs import collect_outputs
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.engine import Engine
from pytest_quantguard.runtime.model import load_model

LEAST_SPEEDUP = 1.8
MADE_PHOTOS, PHOTO_SIZE, INPUT_SIZE = 64, (1024, 768), 224
HASHED_BYTES = 500_000_000
CHANNELS = (3, 32, 64, 64, 128, 128, 256)


def main() -> int:
    """Print the seconds of each; the exit code says whether two cores are fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model_path = arguments.model or make_model(Path(folder) / "made.mlmodel")
        samples = arguments.folder or make_photos(Path(folder) / "photos")
        model = load_model(model_path, engine="portable")
        inputs = make_inputs(samples, model.description, model_name=model.name, allow_unknown_labels=True)
        print(f"{model.name}: {len(inputs)} samples, {available_cores()} cores")
        print(f"load average {os.getloadavg()[0]:.2f}")
        speedups = [print_round(model.engine, inputs, arguments.workers) for _ in range(arguments.rounds)]
    speedup = statistics.median(speedups)
    print(f"{arguments.workers} workers are {speedup:.2f} times as fast; load average {os.getloadavg()[0]:.2f}")
    return 0 if speedup >= LEAST_SPEEDUP or arguments.workers != 2 else 1


def print_round(engine: Engine, inputs: InputSet, workers: int) -> float:
    """How many times faster the workers are than one."""
    alone, together = (seconds(engine, inputs, count) for count in (1, workers))
    figures = f"1 worker {alone:7.2f} s, {workers} workers {together:7.2f} s: {alone / together:.2f}"
    print(f"  {figures}; the machine {machine(workers):.2f}", flush=True)
    return alone / together


def seconds(engine: Engine, inputs: InputSet, workers: int) -> float:
    """How long all samples take."""
    started = time.perf_counter()
    collect_outputs(engine, inputs, names=inputs.names, workers=workers)
    return time.perf_counter() - started


def machine(threads: int) -> float:
    """How many times faster threads are that share nothing."""

    def compute(_: object) -> float:
        started = time.perf_counter()
        hashlib.sha256(bytes(HASHED_BYTES)).digest()
        return time.perf_counter() - started

    alone = compute(None)
    with ThreadPoolExecutor(threads) as pool:
        together = max(pool.map(compute, range(threads)))
    return threads * alone / together


def make_photos(folder: Path) -> Path:
    """A sample folder of JPEG files."""
    rng = np.random.default_rng(0)
    (folder / "noise").mkdir(parents=True)
    for index in range(MADE_PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(folder / "noise" / f"{index}.jpg")
    return folder


def make_model(path: Path) -> Path:
    """A small network of convolutions that takes an image."""
    ct = import_coremltools()
    from coremltools.converters.mil import Builder

    rng = np.random.default_rng(0)

    def build(image: Any) -> Any:
        x = image
        for inputs, outputs in itertools.pairwise(CHANNELS):
            weight = (rng.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)).astype(np.float32)
            x = Builder.relu(x=Builder.conv(x=x, weight=weight, strides=[2, 2], pad_type="same"))
        return Builder.reduce_mean(x=x, axes=[2, 3], name="features")

    shape = (1, 3, INPUT_SIZE, INPUT_SIZE)
    with quiet():
        program = Builder.program(input_specs=[Builder.TensorSpec(shape=shape)])(build)
        image = ct.ImageType(name="image", shape=shape, scale=1 / 255)
        made = ct.convert(program, convert_to="neuralnetwork", inputs=[image], skip_model_load=True)
    return save_model(made, path)


if __name__ == "__main__":
    sys.exit(main())
