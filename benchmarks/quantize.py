"""How fast models are quantized, and whether the bytes are those of coremltools.

Quantizes each MODEL (.mlmodel or .mlpackage; `resnet18` and `resnet18.mlpackage` for one of its size with random
weights, made here; `torch:resnet18` and `torch:resnet18.mlpackage` for a network of tests/conformance/networks.py,
converted from PyTorch) with each scheme, by pytest-quantguard and by coremltools: neural networks with its
quantize_weights, ML programs with its optimize.coreml. What coremltools 9.0 does wrong is repaired for it: the
shape of its k-means table, and how it fuses layers. It uses one thread for k-means, because the sums, and so the
bytes, depend on how many there are; --theirs-threads gives it more, as it would take by itself.

The memory is the peak of a process of its own that reads the model and quantizes it, minus what it had with all
libraries imported, so it includes the float model; in multiples of the model's size.

    python benchmarks/quantize.py resnet18 food.mlmodel --schemes linear:6 kmeans_lut:8,kmeans=optimal
    python benchmarks/quantize.py torch:mobilenet_v2 torch:mobilenet_v2.mlpackage
"""

import argparse
import contextlib
import functools
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loading import peak_bytes

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.repairs import repaired
from pytest_quantguard.schemes.scheme import Scheme

LINEAR = [f"{mode}:{bits}" for mode in ("linear", "linear_lut") for bits in (8, 7, 6, 5, 4, 3, 2, 1)]
KMEANS = [f"kmeans_lut:{bits}" for bits in (8, 7, 6, 5, 4, 3, 2, 1)]
DEFAULT = ["linear:16", "linear_symmetric:8", *LINEAR, *KMEANS]
# Schemes of ML programs, and what to call in coremltools.optimize.coreml; nothing where it has no such thing.
PROGRAM: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "linear:8": [("OpLinearQuantizerConfig", {"mode": "linear"})],
    "linear:4": [("OpLinearQuantizerConfig", {"mode": "linear", "dtype": "int4"})],
    "linear_symmetric:8": [("OpLinearQuantizerConfig", {})],
    "linear:4,per_block=32": [
        ("OpLinearQuantizerConfig", {"mode": "linear", "dtype": "int4", "granularity": "per_block"})
    ],
    "linear_lut:4": [("OpPalettizerConfig", {"mode": "uniform", "nbits": 4})],
    **{f"kmeans_lut:{bits}": [("OpPalettizerConfig", {"nbits": bits})] for bits in (8, 6, 4, 3, 2, 1)},
    "kmeans_lut:8,kmeans=optimal": [],
    "kmeans_lut:4,kmeans=optimal": [],
    "kmeans_lut:4,group_size=16": [
        ("OpPalettizerConfig", {"nbits": 4, "granularity": "per_grouped_channel", "group_size": 16})
    ],
    "sparse:0.5": [("OpMagnitudePrunerConfig", {"target_sparsity": 0.5})],
    "kmeans_lut:4,sparsity=0.5": [
        ("OpMagnitudePrunerConfig", {"target_sparsity": 0.5}),
        ("OpPalettizerConfig", {"nbits": 4}),
    ],
}
FUNCTIONS = {
    "OpLinearQuantizerConfig": "linear_quantize_weights",
    "OpPalettizerConfig": "palettize_weights",
    "OpMagnitudePrunerConfig": "prune_weights",
}
DATE = "com.github.apple.coremltools.conversion_date"
# Name, input channels, output channels and kernel size of ResNet-18's convolutions.
STEM, STAGES, CLASSES = (3, 64, 7), (64, 128, 256, 512), 1000


def main() -> int:
    """Print a table per model; the exit code says whether all bytes are equal that should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--schemes", nargs="+", metavar="SCHEME")
    parser.add_argument("--theirs-threads", type=int, default=1)
    parser.add_argument("--ours-only", action="store_true", help="do not wait for coremltools")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(measure_memory(Path(arguments.models[0]), Scheme.parse(arguments.task)))
        return 0
    good = True
    for name in arguments.models:
        mlmodel = make_or_read(name)
        is_program = mlmodel.get_spec().WhichOneof("Type") == "mlProgram"
        size = serialize(mlmodel)[0]
        load = os.getloadavg()[0]
        print(
            f"\n{Path(name).name}: {size:,} bytes, {len(os.sched_getaffinity(0))} cores, load average {load:.1f}"
        )
        print(
            f"{'mode':30} {'bits':>4} {'ours s':>9} {'coremltools s':>14} {'ratio':>7} {'memory':>7}  bytes equal"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = save_model(mlmodel, Path(folder) / ("m.mlpackage" if is_program else "m.mlmodel"))
            for text in arguments.schemes or (PROGRAM if is_program else DEFAULT):
                threads = 0 if arguments.ours_only else arguments.theirs_threads
                good &= print_row(mlmodel, Scheme.parse(text), threads, path)
    return 0 if good else 1


def make_or_read(name: str) -> Any:
    """The model that a command line argument names."""
    made = {"resnet18": resnet18, "resnet18.mlpackage": resnet18_program}
    if name in made:
        return made[name]()
    if name.startswith("torch:"):
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))
        convert = importlib.import_module("conversion").convert

        network = name.removeprefix("torch:").removesuffix(".mlpackage")
        return convert(network, "mlprogram" if name.endswith(".mlpackage") else "neuralnetwork")
    return read(Path(name))


def read(path: Path) -> Any:
    """A `.mlmodel` file or `.mlpackage` folder as a coremltools `MLModel`."""
    return import_coremltools().models.MLModel(str(path), skip_model_load=True)


def measure_memory(path: Path, scheme: Scheme) -> int:
    """The bytes that reading and quantizing a model take at their peak in this process."""
    import_coremltools()
    import sklearn.cluster  # noqa: F401

    before = peak_bytes()
    quantize_model(read(path), scheme, name="the model")
    return peak_bytes() - before


def memory_ratio(path: Path, scheme: Scheme, size: int) -> float:
    """The same in a process of its own, divided by the model's size."""
    command = [sys.executable, __file__, str(path), "--task", str(scheme)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) / size


def print_row(mlmodel: Any, scheme: Scheme, threads: int, path: Path) -> bool:
    """Quantize with both; False if bytes differ that should be equal."""
    mode, bits = ",".join([scheme.mode, *scheme.options]), scheme.bits or ""
    if scheme.mode == "sparse":
        mode = str(scheme)
    is_program = mlmodel.get_spec().WhichOneof("Type") == "mlProgram"
    started = time.perf_counter()
    try:
        ours = quantize_model(mlmodel, scheme, name="the model").mlmodel
    except SchemeError as error:
        print(f"{mode:30} {bits:>4} {error}", flush=True)
        return True
    our_seconds = time.perf_counter() - started
    memory = memory_ratio(path, scheme, serialize(mlmodel)[0])
    if not threads:
        print(f"{mode:30} {bits:>4} {our_seconds:9.3f} {'':22} {memory:7.2f}", flush=True)
        return True
    by_them = program_by_coremltools if is_program else by_coremltools
    theirs, their_seconds = by_them(mlmodel, scheme, threads)
    is_equal = theirs is not None and serialize(undated(ours)) == serialize(undated(theirs))
    is_comparable = theirs is not None and (is_program or not scheme.options) and threads == 1
    answer = "yes" if is_equal else "no" if theirs is not None else "coremltools has none"
    ratio = f"{their_seconds / our_seconds:7.1f}"
    print(
        f"{mode:30} {bits:>4} {our_seconds:9.3f} {their_seconds:14.3f} {ratio} {memory:7.2f}  {answer}", flush=True
    )
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


def program_by_coremltools(mlmodel: Any, scheme: Scheme, threads: int) -> tuple[Any, float]:
    """What coremltools makes of an ML program, None if it has no such scheme, and its seconds."""
    import coremltools.optimize.coreml as cto
    import sklearn.cluster  # noqa: F401  loads what is to be limited
    from threadpoolctl import threadpool_limits

    theirs = None
    with quiet(), threadpool_limits(threads):
        started = time.perf_counter()
        for index, (config, options) in enumerate(PROGRAM.get(str(scheme), [])):
            configs = cto.OptimizationConfig(getattr(cto, config)(**options))
            call = getattr(cto, FUNCTIONS[config])
            theirs = call(mlmodel if theirs is None else theirs, configs, joint_compression=index > 0)
        return theirs, time.perf_counter() - started if theirs is not None else float("nan")


def undated(mlmodel: Any) -> Any:
    """The model without the date of its conversion, which coremltools renews in ML programs."""
    spec = mlmodel.get_spec()
    spec.description.metadata.userDefined.pop(DATE, None)
    return type(mlmodel)(spec, weights_dir=mlmodel.weights_dir, skip_model_load=True)


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


def shapes_of_resnet18() -> list[tuple[int, int, int]]:
    """Input channels, output channels and kernel size of each convolution."""
    shapes = [STEM]
    for stage, channels in enumerate(STAGES):
        before = STAGES[max(stage - 1, 0)]
        shapes += [(before, channels, 3), *[(channels, channels, 3)] * 3]
        shapes += [(before, channels, 1)] if stage else []
    return shapes


def resnet18_program() -> Any:
    """An ML program, float16, with the tensors of ResNet-18; its convolutions stand in a row."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    rng = np.random.default_rng(0)
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 16, 16))], opset_version=ct.target.iOS18)  # type: ignore[untyped-decorator]
        def program(x: Any) -> Any:
            for inputs, outputs, size in shapes_of_resnet18():
                weights = rng.normal(size=(outputs, inputs, size, size)) / np.sqrt(size * size * inputs)
                groups = x.shape[1] // inputs  # where a branch would begin anew
                x = mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, x.shape[1] // groups, 16, 16])
                x = mb.conv(x=x, weight=weights.astype(np.float32), pad_type="same")
            x = mb.reduce_mean(x=x, axes=[2, 3])
            dense = (rng.normal(size=(CLASSES, STAGES[-1])) / np.sqrt(STAGES[-1])).astype(np.float32)
            return mb.linear(x=x, weight=dense)

        return ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)


def resnet18() -> Any:
    """A neural network with the tensors of ResNet-18, 11.7 million weights; its layers stand in a row."""
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    rng = np.random.default_rng(0)
    shapes = shapes_of_resnet18()
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
