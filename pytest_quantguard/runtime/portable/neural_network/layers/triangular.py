"""Layers that keep a band of the last two dimensions."""

import numpy as np

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("upperTriangular", "lowerTriangular")
def triangular(net: Network, layer: Layer, x: Blob) -> Blob:
    """`UpperTriangularLayerParams`, `LowerTriangularLayerParams`: zero below or above diagonal `k`."""
    upper = int(layer.kind == "upperTriangular")
    value = net.node("Trilu", net.exact(x), net.constant(int(layer.params.k)), upper=upper)
    return net.blob(value, x.shape)


@layer("matrixBandPart")
def matrix_band_part(net: Network, layer: Layer, x: Blob) -> Blob:
    """`MatrixBandPartLayerParams`: zero outside a band around the diagonal; negative keeps everything."""
    lower, upper = int(layer.params.numLower), int(layer.params.numUpper)
    rows, columns = known(x.shape[-2:])
    below = np.arange(rows)[:, None] - np.arange(columns)
    kept = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
    return net.blob(net.node("Where", net.constant(kept), net.exact(x), net.constant(0.0)), x.shape)
