"""Random numbers; `random_numbers.py` says what they depend on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.random_numbers import RandomNumbers, random_key
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, known, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

# Random values of one layer; a damaged file must not exhaust the memory.
_MOST = 2**27

# Random values that are made at a time.
_PART = 2**20


@layer("randomNormalLike", "randomUniformLike", "randomBernoulliLike")
def random_like(net: Network, layer: Layer, x: Blob) -> Blob:
    """`RandomNormalLikeLayerParams` and its kind: the shape of the input."""
    return _drawn(net, layer, net.size_of(x), x.shape)


@layer("randomNormalStatic", "randomUniformStatic", "randomBernoulliStatic")
def random_static(net: Network, layer: Layer) -> Blob:
    """`RandomNormalStaticLayerParams` and its kind: the shape is a parameter."""
    shape = tuple(int(size) for size in layer.params.outputShape)
    return _drawn(net, layer, net.constant(shape), shape)


@layer("randomNormalDynamic", "randomUniformDynamic", "randomBernoulliDynamic")
def random_dynamic(net: Network, layer: Layer, shape: Blob) -> Blob:
    """`RandomNormalDynamicLayerParams` and its kind: the shape is the input's values."""
    unknown: Shape = (None,) * shape.size
    return _drawn(net, layer, net.vector(shape), unknown)


def _drawn(net: Network, layer: Layer, size: str, shape: Shape) -> Blob:
    _check_size(layer, shape)
    params = layer.params
    if layer.kind.startswith("randomBernoulli"):
        probability = net.constant(float(params.prob))
        return net.blob(_numbers(net, layer, size, shape, lambda s, n: s.bernoulli(n, probability)), shape)
    if layer.kind.startswith("randomNormal"):
        value = _numbers(net, layer, size, shape, RandomNumbers.normal)
        factor, offset = float(params.stdDev), float(params.mean)
    else:
        value = _numbers(net, layer, size, shape, RandomNumbers.uniform)
        factor, offset = params.maxVal - params.minVal, float(params.minVal)
    value = net.node("Add", net.node("Mul", value, net.constant(factor)), net.constant(offset))
    return net.blob(value, shape)


def _numbers(
    net: Network, layer: Layer, size: str, shape: Shape, draw: Callable[[RandomNumbers, str], str]
) -> str:
    """Random numbers of a shape; many of them part by part, because their making takes ten times the memory."""
    if None in shape or product(shape) <= _PART:
        return draw(_source(net, layer), size)
    parts = -(-product(shape) // _PART)
    body = net.graph.subgraph("random_part")
    turn = body.input("part", "int64", ())
    body.output(body.input("go_on", "bool", ()), "go_on", "bool")
    if net.turn is not None:
        turn = body.node("Add", [turn, body.node("Mul", [net.turn, body.constant(parts)])])

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        return body.node(operator, inputs, **attributes)

    source = RandomNumbers(node, body.constant, random_key(int(layer.params.seed), layer.name), turn)
    body.output(draw(source, body.constant([_PART])), "numbers", "float32")
    value = net.graph.node("Loop", [net.constant(parts), net.constant(np.array(True))], body=body)
    flat = net.node("Reshape", net.adopt(value, (parts, _PART)), net.constant([-1]))
    return net.node("Reshape", net.node("Slice", flat, net.constant([0]), net.constant([product(shape)])), size)


def _check_size(layer: Layer, shape: Shape) -> None:
    if None not in shape and (min(known(shape), default=0) < 0 or product(shape) > _MOST):
        raise layer.unsupported(f"a random tensor of shape {shape}")


def _source(net: Network, layer: Layer) -> RandomNumbers:
    return RandomNumbers(net.node, net.constant, random_key(int(layer.params.seed), layer.name), net.turn)


@layer("categoricalDistribution")
def categorical_distribution(net: Network, layer: Layer, x: Blob) -> Blob:
    """`CategoricalDistributionLayerParams`: classes drawn from the distribution along the last axis."""
    params = layer.params
    shape = (*known(x.shape[:-1]), int(params.numSamples))
    _check_size(layer, (*x.shape, params.numSamples))
    logits = net.exact(x)
    if not params.isLogits:
        logits = net.node("Log", net.node("Add", logits, net.constant(float(params.eps) or 1e-10)))
    if params.temperature not in (0.0, 1.0):
        logits = net.node("Div", logits, net.constant(float(params.temperature)))
    weights = net.node("Softmax", logits, axis=-1)
    return net.blob(_source(net, layer).categorical(weights, shape[-1]), shape)
