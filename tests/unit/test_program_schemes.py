"""Each scheme of ML programs: the bytes of coremltools, and the weights that coremltools decodes."""

import pytest
from program_examples import assert_decoded_alike, by_coremltools, contents, two_layers

from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme

ct = import_coremltools()
import coremltools.optimize.coreml as cto  # noqa: E402
import coremltools.optimize.coreml._quantization_passes  # noqa: E402, F401  coremltools 8 forgets to register them

SYMMETRIC = {"mode": "linear_symmetric", "dtype": "int8", "granularity": "per_tensor"}


def linear(**arguments):
    return "linear_quantize_weights", cto.OpLinearQuantizerConfig(**arguments)


def table(**arguments):
    return "palettize_weights", cto.OpPalettizerConfig(**arguments)


def pruned(**arguments):
    return "prune_weights", cto.OpMagnitudePrunerConfig(**arguments)


def grouped(group_size, **arguments):
    return table(granularity="per_grouped_channel", group_size=group_size, **arguments)


SAME_BYTES = {
    "linear:8": [linear(mode="linear", dtype="int8")],
    "linear:8,unsigned": [linear(mode="linear", dtype="uint8")],
    "linear:4": [linear(mode="linear", dtype="int4")],
    "linear:4,unsigned": [linear(mode="linear", dtype="uint4")],
    "linear_symmetric:8": [linear(mode="linear_symmetric", dtype="int8")],
    "linear_symmetric:8,unsigned": [linear(mode="linear_symmetric", dtype="uint8")],
    "linear_symmetric:4": [linear(mode="linear_symmetric", dtype="int4")],
    "linear_symmetric:4,unsigned": [linear(mode="linear_symmetric", dtype="uint4")],
    "linear:8,per_tensor": [linear(mode="linear", dtype="int8", granularity="per_tensor")],
    "linear:4,per_block=8": [linear(mode="linear", dtype="int4", granularity="per_block", block_size=8)],
    "linear:8,weight_threshold=2400": [linear(mode="linear", dtype="int8", weight_threshold=2400)],
    "kmeans_lut:8": [table(mode="kmeans", nbits=8)],
    "kmeans_lut:6": [table(mode="kmeans", nbits=6)],
    "kmeans_lut:4": [table(mode="kmeans", nbits=4)],
    "kmeans_lut:3": [table(mode="kmeans", nbits=3)],
    "kmeans_lut:2": [table(mode="kmeans", nbits=2)],
    "kmeans_lut:1": [table(mode="kmeans", nbits=1)],
    "linear_lut:6": [table(mode="uniform", nbits=6)],
    "linear_lut:1": [table(mode="uniform", nbits=1)],
    "kmeans_lut:4,group_size=2": [grouped(2, mode="kmeans", nbits=4)],
    "kmeans_lut:2,group_size=4,channel_axis=1": [grouped(4, mode="kmeans", nbits=2, channel_axis=1)],
    "kmeans_lut:4,cluster_dim=2": [table(mode="kmeans", nbits=4, cluster_dim=2)],
    "kmeans_lut:4,per_channel_scale": [table(mode="kmeans", nbits=4, enable_per_channel_scale=True)],
    "kmeans_lut:2,group_size=2,per_channel_scale": [
        grouped(2, mode="kmeans", nbits=2, enable_per_channel_scale=True)
    ],
    "kmeans_lut:4,lut_dtype=int8": [table(mode="kmeans", nbits=4), linear(**SYMMETRIC)],
    "sparse:0.6": [pruned(target_sparsity=0.6)],
    "sparse,threshold=0.1": [("prune_weights", cto.OpThresholdPrunerConfig(threshold=0.1))],
    "sparse,threshold=0.02,minimum_sparsity=0.1": [
        ("prune_weights", cto.OpThresholdPrunerConfig(threshold=0.02, minimum_sparsity_percentile=0.1))
    ],
    "sparse,n_m_ratio=2:4": [pruned(n_m_ratio=(2, 4))],
    "sparse,n_m_ratio=1:3,prune_dim=0": [pruned(n_m_ratio=(1, 3), dim=0)],
    "sparse:0.5,prune_block=2": [pruned(target_sparsity=0.5, block_size=2)],
    "sparse:0.5,prune_block=3,prune_dim=1": [pruned(target_sparsity=0.5, block_size=3, dim=1)],
    "kmeans_lut:4,sparsity=0.5": [pruned(target_sparsity=0.5), table(mode="kmeans", nbits=4)],
    "linear_symmetric:8,n_m_ratio=2:4": [pruned(n_m_ratio=(2, 4)), linear(mode="linear_symmetric", dtype="int8")],
    "kmeans_lut:4,lut_dtype=uint8,sparsity=0.5": [
        pruned(target_sparsity=0.5),
        table(mode="kmeans", nbits=4),
        linear(**{**SYMMETRIC, "dtype": "uint8"}),
    ],
}


@pytest.fixture(scope="module")
def program():
    return two_layers()


@pytest.mark.parametrize("text", SAME_BYTES)
def test_the_bytes_are_those_of_coremltools_and_decoded_as_it_does(program, text):
    scheme = Scheme.parse(text)
    quantized = quantize_model(program, scheme, name="m")
    assert contents(quantized.mlmodel) == contents(by_coremltools(program, SAME_BYTES[text]), like=program)
    assert quantized.compression.compressed >= 2304
    assert_decoded_alike(quantized.mlmodel)
    assert str(scheme) == text
