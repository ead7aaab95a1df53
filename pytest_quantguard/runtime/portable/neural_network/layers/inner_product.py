"""Matrix products and lookups of rows: fully connected layers and embeddings."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("innerProduct")
def inner_product(net: Network, layer: Layer, x: Blob) -> Blob:
    """`InnerProductLayerParams`; up to rank 3 the last dimension counts, from rank 4 on the last three."""
    params = layer.params
    inputs, outputs = int(params.inputChannels), int(params.outputChannels)
    lead: Shape = x.shape[:-1] if x.rank <= 3 else x.shape[:-3]
    if product(x.shape[len(lead) :]) != inputs:
        raise layer.unsupported(f"an input of shape {x.shape} where {inputs} channels are needed")
    weights = net.constant(layer.weights("weights", (outputs, inputs)), f"{layer.name}.weights")
    rows = _rows(net, layer, x, (product(lead), inputs))
    value = net.node("Gemm", rows, weights, *_bias(net, layer, outputs), transB=1)
    return net.blob(value, (*lead, outputs) if x.rank <= 3 else (*lead, outputs, 1, 1))


def _rows(net: Network, layer: Layer, x: Blob, shape: Shape) -> str:
    """The input as a matrix; with `int8DynamicQuantize` it is rounded to int8 and back at run time.

    The specification does not say with which scale. Here, as coremltools does with the weights, the largest
    magnitude of the whole input becomes 127. The product has one scale, so it is the same before and after.
    """
    rows = net.reshaped(x, shape)
    if not layer.params.int8DynamicQuantize:
        return rows
    largest = net.node("ReduceMax", net.node("Abs", rows), keepdims=0)
    is_zero = net.node("Equal", largest, net.constant(0.0))
    scale = net.node("Div", net.node("Where", is_zero, net.constant(127.0), largest), net.constant(127.0))
    return net.node("Mul", net.node("Round", net.node("Div", rows, scale)), scale)


def _bias(net: Network, layer: Layer, outputs: int) -> list[str]:
    if not layer.params.hasBias:
        return []
    return [net.constant(layer.weights("bias", (outputs,)), f"{layer.name}.bias")]


@layer("batchedMatmul")
def batched_matmul(net: Network, layer: Layer, x: Blob, y: Blob | None = None) -> Blob:
    """`BatchedMatMulLayerParams`: two tensors, or one tensor and constant weights."""
    if y is None:
        return _constant_matmul(net, layer, x)
    first, second = net.exact(x), net.exact(y)
    if x.rank == 1:
        first = net.node("Unsqueeze", first, net.constant([0]))
    if y.rank == 1:
        second = net.node("Unsqueeze", second, net.constant([1]))
    if layer.params.transposeA:
        first = _transposed(net, first)
    if layer.params.transposeB:
        second = _transposed(net, second)
    return net.blob(net.node("MatMul", first, second))


def _transposed(net: Network, value: str) -> str:
    axes = list(range(len(net.shape(value))))
    return net.node("Transpose", value, perm=[*axes[:-2], axes[-1], axes[-2]])


def _constant_matmul(net: Network, layer: Layer, x: Blob) -> Blob:
    """One input: the weights [X1, X2] are stored in column major order; transposes are ignored."""
    params = layer.params
    inputs, outputs = int(params.weightMatrixFirstDimension), int(params.weightMatrixSecondDimension)
    if x.shape[-1] != inputs:
        raise layer.unsupported(f"an input of shape {x.shape} where a last dimension of {inputs} is needed")
    weights = net.constant(layer.weights("weights", (outputs, inputs)), f"{layer.name}.weights")
    lead = x.shape[:-1]
    rows = _rows(net, layer, x, (product(lead), inputs))
    value = net.node("Gemm", rows, weights, *_bias(net, layer, outputs), transB=1)
    return net.blob(value, (*lead, outputs))


@layer("embedding")
def embedding(net: Network, layer: Layer, x: Blob) -> Blob:
    """`EmbeddingLayerParams`: rank 4 or 5, the last three sizes are 1."""
    if x.rank not in (4, 5) or x.shape[-3:] != (1, 1, 1):
        raise layer.unsupported(f"an input of shape {x.shape}")
    outputs = int(layer.params.outputChannels)
    value = _lookup(net, layer, x, int(layer.params.inputDim), outputs)
    return net.blob(value, (*x.shape[:-3], outputs, 1, 1))


@layer("embeddingND")
def embedding_nd(net: Network, layer: Layer, x: Blob) -> Blob:
    """`EmbeddingNDLayerParams`: rank 2 to 5, the last size is 1."""
    if x.rank < 2 or x.shape[-1] != 1:
        raise layer.unsupported(f"an input of shape {x.shape}")
    outputs = int(layer.params.embeddingSize)
    value = _lookup(net, layer, x, int(layer.params.vocabSize), outputs)
    return net.blob(value, (*x.shape[:-1], outputs))


def _lookup(net: Network, layer: Layer, x: Blob, words: int, outputs: int) -> str:
    """The columns of the weights [outputs, words] that the input names, as rows."""
    table = net.constant(layer.weights("weights", (outputs, words)).T, f"{layer.name}.weights")
    indices = net.node("Cast", net.reshaped(x, (x.size,)), to=7)
    rows = net.node("Gather", table, indices, axis=0)
    return net.node("Add", rows, *bias) if (bias := _bias(net, layer, outputs)) else rows
