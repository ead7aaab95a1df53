"""Compressed weights are decoded bit for bit as coremltools decodes them."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_program_makers import make_spec, pack_bits, run_spec

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops import DECODERS
from pytest_quantguard.runtime.portable.ml_program.scope import constant_value

ct = import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops as ios16  # noqa: E402
from coremltools.converters.mil.mil.ops.defs.iOS18 import compression as ios18  # noqa: E402

RNG = np.random.default_rng(11)
FLOATS = (np.float32, np.float16)


def decode(name, **parameters):
    """What the decoder of an operation makes of its parameters."""
    values = {key: [constant_value(key, value)] for key, value in parameters.items() if value is not None}
    return DECODERS[name](MilOperation(SimpleNamespace(), name, values, ["weight"], [None], 8))


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    # Bit for bit: zeros of either sign are told apart.
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("stored", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_affine_dequantize(dtype, stored, axis):
    data = RNG.integers(0, 127, (5, 3, 4)).astype(stored)
    size = data.shape[axis]
    for scale, zero_point in (
        (dtype(0.013), stored(7)),
        (RNG.uniform(0.01, 0.1, size).astype(dtype), RNG.integers(0, 50, size).astype(stored)),
        (RNG.uniform(0.01, 0.1, size).astype(dtype), np.float32(3.5)),
    ):
        arrays = [np.asarray(scale), np.asarray(zero_point)]
        found = decode(
            "constexpr_affine_dequantize",
            quantized_data=data,
            scale=arrays[0],
            zero_point=arrays[1],
            axis=np.int32(axis).reshape(()),
        )
        expected = ios16.constexpr_affine_dequantize.decompress(data, arrays[1], arrays[0], axis)
        assert_same(found, expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint8])
def test_lookup_tables_of_ios16(bits, dtype):
    shape = np.uint32([5, 3, 7])
    lut = RNG.integers(0, 100, 2**bits).astype(dtype)
    indices = pack_bits(RNG.integers(0, 2**bits, 105), bits)
    expected = ios16.constexpr_lut_to_dense.decompress(lut, indices, shape)
    assert_same(decode("constexpr_lut_to_dense", lut=lut, indices=indices, shape=shape), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint8])
def test_sparse_weights_of_ios16(dtype):
    mask = RNG.integers(0, 2, 105).astype(np.uint8)
    packed, shape = pack_bits(mask, 1), np.uint32([5, 3, 7])
    nonzero = RNG.integers(1, 100, mask.sum()).astype(dtype)
    expected = ios16.constexpr_sparse_to_dense.decompress(nonzero, packed, shape)
    assert_same(decode("constexpr_sparse_to_dense", nonzero_data=nonzero, mask=packed, shape=shape), expected)


def test_casts():
    source = RNG.normal(size=(3, 4)).astype(np.float16)
    assert_same(decode("constexpr_cast", source_val=source, output_dtype="fp32"), source.astype(np.float32))


BLOCKS = [(1, 1, 1), (6, 1, 1), (1, 2, 1), (3, 2, 4), (6, 4, 8)]


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset_type", [None, np.int8, np.uint8, np.float16, np.float32])
def test_blockwise_shift_and_scale(blocks, dtype, offset_type):
    data = RNG.integers(-8, 8, (6, 4, 8)).astype(np.int8 if offset_type is np.int8 else np.uint8)
    scale = RNG.uniform(0.01, 0.1, blocks).astype(dtype)
    offset = None if offset_type is None else RNG.integers(0, 7, blocks).astype(offset_type)
    expected = ios18.constexpr_blockwise_shift_scale.decompress(data, scale, offset)
    assert_same(decode("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=offset), expected)


@given(
    st.tuples(*[st.sampled_from([(1, 3), (2, 2), (2, 6), (4, 4), (1, 1)])] * 3),
    st.sampled_from([1, 2, 3, 4, 6, 8]),
    st.integers(1, 4),
    st.integers(-3, 2),
    st.sampled_from([np.float16, np.float32, np.int8]),
)
def test_lookup_tables_of_ios18_per_block_and_with_vectors(sizes, bits, vector_size, axis, dtype):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 2**bits, [size for _, size in sizes]).astype(np.uint8)
    lut = rng.integers(-100, 100, [*[count for count, _ in sizes], 2**bits, vector_size]).astype(dtype)
    expected = ios18.constexpr_lut_to_dense.decompress(indices, lut, axis)
    found = decode("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=np.array(axis, np.int32))
    assert_same(found, expected)


def test_sparse_weights_of_ios18():
    mask = RNG.integers(0, 2, (5, 3, 7)).astype(np.uint8)
    nonzero = RNG.normal(size=mask.sum()).astype(np.float16)
    expected = ios18.constexpr_sparse_to_dense.decompress(nonzero, mask)
    assert_same(decode("constexpr_sparse_to_dense", nonzero_data=nonzero, mask=mask), expected)


@pytest.mark.parametrize("vector_size", [1, 2])
def test_lookup_tables_over_sparse_weights(vector_size):
    mask = RNG.integers(0, 2, (4, 6)).astype(np.uint8)
    indices = RNG.integers(0, 4, mask.sum()).astype(np.uint8)
    lut = RNG.normal(size=(2, 1, 4, vector_size)).astype(np.float16)
    axis = np.array(0, np.int32) if vector_size > 1 else None
    expected = ios18.constexpr_lut_to_sparse.decompress(mask, indices, lut, axis)
    found = decode(
        "constexpr_lut_to_sparse", indices_mask=mask, indices_nonzero_data=indices, lut=lut, vector_axis=axis
    )
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("with_offset", [True, False])
def test_blockwise_shift_and_scale_over_sparse_weights(with_offset):
    mask = RNG.integers(0, 2, (4, 6)).astype(np.uint8)
    nonzero = RNG.integers(-8, 8, mask.sum()).astype(np.int8)
    scale = RNG.uniform(0.1, 1, (4, 3)).astype(np.float16)
    offset = RNG.integers(-8, 8, (4, 3)).astype(np.int8) if with_offset else None
    expected = ios18.constexpr_sparse_blockwise_shift_scale.decompress(mask, nonzero, scale, offset)
    found = decode(
        "constexpr_sparse_blockwise_shift_scale", data_mask=mask, nonzero_data=nonzero, scale=scale, offset=offset
    )
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_decoders_exist_for_all_operations_of_coremltools():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    known = {name for name in SSAOpRegistry.core_ops if name.startswith("constexpr_")}
    assert len(known) >= 7
    assert known <= set(DECODERS)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "constexpr_lut_to_dense",
            {"lut": np.ones(3, np.float32), "indices": np.zeros(4, np.uint8), "shape": np.uint32([16])},
            "a lookup table of 3 values",
        ),
        (
            "constexpr_lut_to_dense",
            {"lut": np.ones(4, np.float32), "indices": np.zeros(4, np.uint8), "shape": np.uint32([17])},
            r"4 bytes of indices for shape \(17,\)",
        ),
        (
            "constexpr_lut_to_dense",
            {"lut": np.ones((1, 2, 1), np.float32), "indices": np.uint8([0, 2])},
            "past the end of its lookup table",
        ),
        (
            "constexpr_lut_to_dense",
            {"lut": np.ones((1, 2, 2), np.float32), "indices": np.uint8([0, 1])},
            "no axis for them",
        ),
        (
            "constexpr_lut_to_dense",
            {"lut": np.ones((2, 2), np.float32), "indices": np.uint8([0, 1])},
            r"a lookup table of shape \(2, 2\)",
        ),
        (
            "constexpr_blockwise_shift_scale",
            {"data": np.zeros((4, 6), np.int8), "scale": np.ones((4, 4), np.float32)},
            r"divides shape \(4, 6\) into \(4, 4\) blocks",
        ),
        (
            "constexpr_sparse_to_dense",
            {"nonzero_data": np.ones(2, np.float32), "mask": np.uint8([1, 1, 1, 0])},
            "2 values for another number of places",
        ),
    ],
)
def test_damaged_parameters_are_named(name, parameters, message):
    with pytest.raises(ModelFileError, match=rf"operation '{name}' \(output 'weight'\).*{message}"):
        decode(name, **parameters)


WEIGHT = RNG.normal(size=(32, 16, 3, 3)).astype(np.float32)
IMAGE = RNG.normal(size=(1, 16, 6, 6)).astype(np.float32)


def schemes():
    import coremltools.optimize.coreml as cto

    def linear(**options):
        return cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(weight_threshold=0, **options)

    def palettize(**options):
        return cto.palettize_weights, cto.OpPalettizerConfig(weight_threshold=0, **options)

    def prune(**options):
        return cto.prune_weights, cto.OpMagnitudePrunerConfig(weight_threshold=0, **options)

    groups = {"granularity": "per_grouped_channel", "group_size": 8}
    return {
        "iOS16": {
            "8 bits": linear(mode="linear"),
            "8 bits, symmetric": linear(mode="linear_symmetric"),
            "4-bit table": palettize(mode="uniform", nbits=4),
            "6-bit table": palettize(mode="uniform", nbits=6),
            "sparse": prune(target_sparsity=0.5),
        },
        "iOS18": {
            "4-bit blocks": linear(mode="linear", dtype="uint4", granularity="per_block", block_size=4),
            "4-bit channels": linear(mode="linear_symmetric", dtype="int4"),
            "3-bit table": palettize(mode="uniform", nbits=3),
            "4-bit tables per group": palettize(mode="uniform", nbits=4, **groups),
            "2-bit vectors": palettize(mode="kmeans", nbits=2, cluster_dim=4),
            "scaled table": palettize(mode="uniform", nbits=4, enable_per_channel_scale=True),
            "sparse": prune(target_sparsity=0.5),
        },
    }


@pytest.fixture(scope="module")
def float_models():
    """A convolution, converted for each target."""

    def convert(target):
        with quiet():

            @mb.program(input_specs=[mb.TensorSpec(shape=IMAGE.shape)], opset_version=target)
            def program(image):
                return mb.conv(x=image, weight=WEIGHT, pad_type="same", name="result")

            return ct.convert(
                program,
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT32,
                minimum_deployment_target=target,
                skip_model_load=True,
            )

    return {name: convert(getattr(ct.target, name)) for name in schemes()}


def run(mlmodel):
    from pathlib import Path

    return run_spec(mlmodel.get_spec(), {"image": IMAGE}, Path(mlmodel.weights_dir))[0]


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target, all_ in schemes().items() for name in all_]
)
def test_compressed_models_answer_as_their_decompressed_ones(target, name, float_models):
    import coremltools.optimize.coreml as cto

    compress, config = schemes()[target][name]
    with quiet():
        compressed = compress(float_models[target], cto.OptimizationConfig(global_config=config))
        expected = run(cto.decompress_weights(compressed))
    assert any(
        operation.type.startswith("constexpr_")
        for operation in compressed.get_spec()
        .mlProgram.functions["main"]
        .block_specializations[{"iOS16": "CoreML6", "iOS18": "CoreML8"}[target]]
        .operations
    )
    np.testing.assert_array_equal(run(compressed), expected)


@pytest.mark.parametrize("second", ["palettize", "quantize"])
def test_pruned_and_further_compressed_models_answer_as_their_decompressed_ones(second, float_models):
    import coremltools.optimize.coreml as cto

    steps = [
        schemes()["iOS18"]["sparse"],
        schemes()["iOS18"]["3-bit table" if second == "palettize" else "4-bit channels"],
    ]
    with quiet():
        model = float_models["iOS18"]
        for compress, config in steps:
            model = compress(model, cto.OptimizationConfig(global_config=config), joint_compression=True)
        expected = run(cto.decompress_weights(model))
    np.testing.assert_array_equal(run(model), expected)


def test_a_decoder_of_another_shape_than_declared_is_refused(tmp_path):
    def build(x):
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.int8([[1, 2]]), zero_point=np.int8(0), scale=np.float32(1), axis=0, name="weight"
        )
        return mb.matmul(x=x, y=weight)

    spec = make_spec(build, {"x": np.ones((3, 1), np.float32)}, tmp_path, "iOS16")
    for operation in spec.mlProgram.functions["main"].block_specializations["CoreML6"].operations:
        if operation.type.startswith("constexpr"):
            operation.outputs[0].type.tensorType.dimensions[0].constant.size = 9
    with pytest.raises(ModelFileError, match=r"\(output 'weight'\) declares shape \(9, 2\), but has \(1, 2\)"):
        run_spec(spec, {}, tmp_path)
