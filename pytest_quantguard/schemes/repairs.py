"""Defects of how coremltools quantizes neural networks: repairs of its fusing, and probes for others.

Each repair wraps one function of coremltools for the duration of a call, and leaves what coremltools does right
as it is. Which defects there are is told at each repair; they were found in coremltools 9.0.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pytest_quantguard.quiet import quiet
from pytest_quantguard.schemes.fusion import fuse_batchnorm, is_fused, may_fuse

# Repairs, and the options of coremltools' passes, belong to the process: one quantization at a time.
LOCK = threading.RLock()


@contextlib.contextmanager
def repaired(outputs: frozenset[str]) -> Iterator[None]:
    """Repair coremltools' `optimization_utils` inside the `with` block.

    Args:
        outputs: names of the outputs of the network to be quantized.
    """
    from coremltools.models.neural_network import optimization_utils

    with LOCK, contextlib.ExitStack() as stack:
        for module, name, repair in (
            (optimization_utils, "_get_nn_mappings", functools.partial(_only_right_fusions, outputs=outputs)),
            (optimization_utils, "_conv_bn_fusion", _right_fusion),
        ):
            stack.enter_context(wrapped(module, name, repair))
        yield


@contextlib.contextmanager
def wrapped(module: Any, name: str, repair: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(module, name, None)
    if original is None:  # a coremltools that no longer has the function needs no repair of it
        yield
        return
    setattr(module, name, repair(original))
    try:
        yield
    finally:
        setattr(module, name, original)


def _only_right_fusions(original: Any, outputs: frozenset[str]) -> Any:
    """Layers are fused where the arithmetic does not hold; see `fusion.may_fuse`.

    Such a layer is left out of the map from layer type to layers, where coremltools looks for layers to fuse.
    """

    @functools.wraps(original)
    def wrapper(layers: Any) -> Any:
        types, successors, predecessors = original(layers)

        def keep(index: str) -> bool:
            second = layers[int(index)]
            firsts = [layers[int(before)] for before in predecessors[index]]
            return all(may_fuse(first, second, outputs) for first in firsts if is_fused(first, second))

        kept = {kind: [index for index in indices if keep(index)] for kind, indices in types.items()}
        return kept, successors, predecessors

    return wrapper


def _right_fusion(original: Any) -> Any:
    """A batch norm is fused with its parameters broadcast as columns, which raises a TypeError."""
    if _fuses_batchnorm_right(original):
        return original

    @functools.wraps(original)
    def wrapper(convolution: int, batchnorm: int, layers: Any) -> None:
        fuse_batchnorm(layers[convolution].convolution, layers[batchnorm].batchnorm)
        layers[convolution].output[:] = layers[batchnorm].output
        del layers[batchnorm]

    return wrapper


def fuses_batchnorm_right() -> bool:
    """Whether coremltools itself can fuse a batch norm into a convolution."""
    from coremltools.models.neural_network import optimization_utils

    fuse = getattr(optimization_utils, "_conv_bn_fusion", None)
    return fuse is not None and _fuses_batchnorm_right(fuse)


def stores_kmeans_table() -> bool:
    """Whether coremltools gives the table of k-means as a list of numbers, which protobuf takes."""
    from coremltools.models.neural_network import quantization_utils

    cluster = getattr(quantization_utils, "_get_kmeans_lookup_table_and_weight", None)
    return cluster is not None and _gives_a_row(cluster)


@functools.cache
def _gives_a_row(cluster: Any) -> bool:
    with quiet():
        return np.ndim(cluster(1, np.array([0, 1], np.float32))[0]) == 1


def smallest_scale() -> float:
    """Up to which scale coremltools loses the values of a channel: 0, or what coremltools 9.0 compares with."""
    from coremltools.models.neural_network import quantization_utils

    quantize = getattr(quantization_utils, "_quantize_channelwise_linear", None)
    return 0.0 if quantize is not None and _keeps_tiny_values(quantize) else 1e-6


@functools.cache
def _keeps_tiny_values(quantize: Any) -> bool:
    indices = np.asarray(quantize(np.array([[0, 1e-9]], np.float32), 8)[0])
    return indices.ravel().tolist() == [0, 255]


@functools.cache
def _fuses_batchnorm_right(fuse: Any) -> bool:
    """Try coremltools' function on two layers of two channels."""
    ours, theirs = _example().layers, _example().layers
    fuse_batchnorm(ours[0].convolution, ours[1].batchnorm)
    try:
        fuse(0, 1, theirs)
    except (TypeError, ValueError):
        return False
    ours, theirs = ours[0].convolution, theirs[0].convolution
    return all(
        len(getattr(ours, field).floatValue) == len(getattr(theirs, field).floatValue)
        and np.allclose(getattr(ours, field).floatValue, getattr(theirs, field).floatValue)
        for field in ("weights", "bias")
    )


def _example() -> Any:
    """A 1x1 convolution with two input and two output channels, and the batch norm after it."""
    from coremltools.proto import NeuralNetwork_pb2

    network = NeuralNetwork_pb2.NeuralNetwork()
    convolution = network.layers.add(name="convolution", input=["x"], output=["y"]).convolution
    convolution.outputChannels, convolution.kernelChannels, convolution.nGroups = 2, 2, 1
    convolution.kernelSize.extend([1, 1])
    convolution.hasBias = True
    convolution.weights.floatValue.extend([1, 2, 3, 5])
    convolution.bias.floatValue.extend([0.5, -1])
    batchnorm = network.layers.add(name="batchnorm", input=["y"], output=["z"]).batchnorm
    batchnorm.channels, batchnorm.epsilon = 2, 0.25
    for field, values in {"gamma": [2, 3], "beta": [1, -1], "mean": [0.5, 4], "variance": [0.75, 2]}.items():
        getattr(batchnorm, field).floatValue.extend(values)
    return network
