"""How fast neural networks are quantized, and whether the bytes are those of coremltools.

Quantizes each MODEL (.mlmodel; `resnet18` for one of its size with random weights, made here) with each scheme, by
pytest-quantguard and by coremltools' quantize_weights. What coremltools 9.0 does wrong is repaired for it: the
shape of its k-means table, and how it fuses layers. It uses one thread for k-means, because the sums, and so the
bytes, depend on how many there are; --theirs-threads gives it more, as it would take by itself.

    python benchmarks/quantize.py resnet18 food.mlmodel --schemes linear:6 kmeans_lut:8,kmeans=optimal
"""

import argparse
import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.repairs import repaired
from pytest_quantguard.schemes.scheme import Scheme

LINEAR = [f"{mode}:{bits}" for mode in ("linear", "linear_lut") for bits in (8, 7, 6, 5, 4, 3, 2, 1)]
KMEANS = [f"kmeans_lut:{bits}" for bits in (8, 7, 6, 5, 4, 3, 2, 1)]
DEFAULT = ["linear:16", "linear_symmetric:8", *LINEAR, *KMEANS]
# Name, input channels, output channels and kernel size of ResNet-18's convolutions.
STEM, STAGES, CLASSES = (3, 64, 7), (64, 128, 256, 512), 1000


def main() -> int:
    """Print a table per model; the exit code says whether all bytes are equal that should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--schemes", nargs="+", default=DEFAULT, metavar="SCHEME")
    parser.add_argument("--theirs-threads", type=int, default=1)
    parser.add_argument("--ours-only", action="store_true", help="do not wait for coremltools")
    arguments = parser.parse_args()
    good = True
    for name in arguments.models:
        mlmodel = resnet18() if name == "resnet18" else read(Path(name))
        size = serialize(mlmodel)[0]
        print(f"\n{Path(name).name}: {size:,} bytes, {len(os.sched_getaffinity(0))} cores")
        print(f"{'mode':30} {'bits':>4} {'ours s':>9} {'coremltools s':>14} {'ratio':>7}  bytes equal")
        for text in arguments.schemes:
            threads = 0 if arguments.ours_only else arguments.theirs_threads
            good &= print_row(mlmodel, Scheme.parse(text), threads)
    return 0 if good else 1


def read(path: Path) -> Any:
    """A `.mlmodel` file as a coremltools `MLModel`."""
    return import_coremltools().models.MLModel(str(path), skip_model_load=True)


def print_row(mlmodel: Any, scheme: Scheme, threads: int) -> bool:
    """Quantize with both; False if bytes differ that should be equal."""
    mode = ",".join([scheme.mode, *scheme.options])
    started = time.perf_counter()
    try:
        ours = quantize_model(mlmodel, scheme, name="the model").mlmodel
    except SchemeError as error:
        print(f"{mode:30} {scheme.bits:4} {error}", flush=True)
        return True
    our_seconds = time.perf_counter() - started
    if not threads:
        print(f"{mode:30} {scheme.bits:4} {our_seconds:9.3f}", flush=True)
        return True
    theirs, their_seconds = by_coremltools(mlmodel, scheme, threads)
    is_equal = theirs is not None and serialize(ours) == serialize(theirs)
    is_comparable = theirs is not None and not scheme.options and threads == 1
    answer = "yes" if is_equal else "no" if theirs is not None else "coremltools fails"
    ratio = f"{their_seconds / our_seconds:7.1f}"
    print(f"{mode:30} {scheme.bits:4} {our_seconds:9.3f} {their_seconds:14.3f} {ratio}  {answer}", flush=True)
    return is_equal or not is_comparable


def by_coremltools(mlmodel: Any, scheme: Scheme, threads: int) -> tuple[Any, float]:
    """What coremltools makes, None if it fails, and its seconds."""
    from coremltools.models.neural_network.quantization_utils import quantize_weights
    from threadpoolctl import threadpool_limits

    mode = scheme.mode if scheme.bits < 16 else "linear"
    outputs = frozenset(feature.name for feature in mlmodel.get_spec().description.output)
    with quiet(), repaired(outputs), flat_tables(), threadpool_limits(threads):
        started = time.perf_counter()
        try:
            theirs = quantize_weights(mlmodel, scheme.bits, mode)
        except (TypeError, ValueError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            theirs = None
        return theirs, time.perf_counter() - started


@contextlib.contextmanager
def flat_tables() -> Iterator[None]:
    """Give protobuf coremltools' k-means table as a row, and k-means float64 weights as protobuf 5.29 does."""
    from coremltools.models.neural_network import quantization_utils

    name = "_get_kmeans_lookup_table_and_weight"
    original = getattr(quantization_utils, name)

    @functools.wraps(original)
    def flat(bits: int, weights: Any) -> Any:
        table, indices = original(bits, weights.astype(np.float64))
        return np.ravel(table), indices

    setattr(quantization_utils, name, flat)
    try:
        yield
    finally:
        setattr(quantization_utils, name, original)


def resnet18() -> Any:
    """A neural network with the tensors of ResNet-18, 11.7 million weights; its layers stand in a row."""
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    rng = np.random.default_rng(0)
    shapes = [STEM]
    for stage, channels in enumerate(STAGES):
        before = STAGES[max(stage - 1, 0)]
        shapes += [(before, channels, 3), *[(channels, channels, 3)] * 3]
        shapes += [(before, channels, 1)] if stage else []
    with quiet():
        features = ct.models.datatypes.Array(3, 224, 224)
        builder = NeuralNetworkBuilder([("image", features)], [("logits", None)])
        blob = "image"
        for index, (inputs, outputs, size) in enumerate(shapes):
            weights = rng.normal(size=(size, size, inputs, outputs)) / np.sqrt(size * size * inputs)
            bias = rng.normal(size=outputs) / 10
            names = {"input_name": blob, "output_name": f"conv{index}"}
            sizes = (inputs, outputs, size, size, 1, 1, "same", 1)
            builder.add_convolution(f"conv{index}", *sizes, weights.astype(np.float32), bias, True, **names)
            blob = f"conv{index}"
        dense = rng.normal(size=(CLASSES, STAGES[-1])) / np.sqrt(STAGES[-1])
        bias = rng.normal(size=CLASSES) / 10
        builder.add_inner_product("dense", dense, bias, STAGES[-1], CLASSES, True, blob, "logits")
        return ct.models.MLModel(builder.spec, skip_model_load=True)


if __name__ == "__main__":
    sys.exit(main())
