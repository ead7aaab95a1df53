"""Weight files and constants against coremltools' own writer, and damaged ones."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_program_makers import pack_bits

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.constants import read_value
from pytest_quantguard.runtime.portable.ml_program.mil_types import DATA_TYPES
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles, unpack_bits

import_coremltools()

from coremltools import proto  # noqa: E402

NAME = "@model_path/weights/weight.bin"
NUMBERS = {name: number for number, name in DATA_TYPES.items()}
SHAPE = (3, 5)


def write_blobs(folder, *blobs):
    """Write (writer method, array) pairs with coremltools; returns their offsets."""
    from coremltools.libmilstoragepython import _BlobStorageWriter

    folder.mkdir(exist_ok=True)
    writer = _BlobStorageWriter(str(folder / "weight.bin"), True)
    return [getattr(writer, f"write_{method}_data")(array.reshape(-1)) for method, array in blobs]


def whole(dtype, low, high):
    return np.random.default_rng(1).integers(low, high, SHAPE).astype(dtype)


BLOBS = {
    "fp32": ("float", np.linspace(-1, 1, 15, dtype=np.float32).reshape(SHAPE)),
    "fp16": ("fp16", np.linspace(-1, 1, 15, dtype=np.float16).reshape(SHAPE)),
    "int8": ("int8", whole(np.int8, -128, 128)),
    "uint8": ("uint8", whole(np.uint8, 0, 256)),
    "int16": ("int16", whole(np.int16, -30000, 30000)),
    "uint16": ("uint16", whole(np.uint16, 0, 60000)),
    "int32": ("int32", whole(np.int32, -(2**30), 2**30)),
    "uint32": ("uint32", whole(np.uint32, 0, 2**32)),
    "int4": ("int4", whole(np.int8, -8, 8)),
    "uint1": ("uint1", whole(np.uint8, 0, 2)),
    "uint2": ("uint2", whole(np.uint8, 0, 4)),
    "uint3": ("uint3", whole(np.uint8, 0, 8)),
    "uint4": ("uint4", whole(np.uint8, 0, 16)),
    "uint6": ("uint6", whole(np.uint8, 0, 64)),
}


@pytest.mark.parametrize("dtype", BLOBS)
def test_every_type_that_coremltools_writes_is_read(dtype, tmp_path):
    method, array = BLOBS[dtype]
    stored = array.view(np.uint16) if dtype == "fp16" else array
    # The first tensor moves the second one away from the start of the file.
    offset = write_blobs(tmp_path, ("float", np.ones(3, np.float32)), (method, stored))[1]
    found = WeightFiles(tmp_path).read(NAME, offset, dtype, SHAPE)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(st.sampled_from([1, 2, 3, 4, 6, 8]), st.data())
def test_unpacking_inverts_packing(bits, data):
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    assert unpack_bits(pack_bits(values, bits), bits, len(values)).tolist() == values


def test_a_tensor_stored_as_another_type_is_refused(tmp_path):
    offset = write_blobs(tmp_path, ("float", np.ones(4, np.float32)))[0]
    with pytest.raises(ModelFileError, match=r"stored as fp32, but the program declares int32"):
        WeightFiles(tmp_path).read(NAME, offset, "int32", (4,))


def test_a_tensor_of_another_size_is_refused(tmp_path):
    offset = write_blobs(tmp_path, ("float", np.ones(4, np.float32)))[0]
    with pytest.raises(ModelFileError, match=r"has 16 bytes, which does not fit fp32 of shape \(5,\)"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (5,))


@pytest.mark.parametrize("offset", [0, 1, 40, 72])
def test_an_offset_without_a_record_is_refused(offset, tmp_path):
    write_blobs(tmp_path, ("float", np.ones(4, np.float32)))
    with pytest.raises(ModelFileError, match="no valid record"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (4,))


@pytest.mark.parametrize("offset", [130, 144, 2**40, 2**64 - 1])
def test_an_offset_past_the_end_is_refused(offset, tmp_path):
    write_blobs(tmp_path, ("float", np.ones(4, np.float32)))
    with pytest.raises(ModelFileError, match="past the end of the file"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (4,))


def test_a_record_that_points_past_the_end_is_refused(tmp_path):
    offset = write_blobs(tmp_path, ("float", np.ones(4, np.float32)))[0]
    path = tmp_path / "weight.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, offset + 16, 2**63)
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="is cut off"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (4,))


def test_a_truncated_weight_file_is_refused(tmp_path):
    offset = write_blobs(tmp_path, ("float", np.ones(1000, np.float32)))[0]
    path = tmp_path / "weight.bin"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelFileError, match="is cut off"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (1000,))
    path.write_bytes(b"\0" * 20)
    with pytest.raises(ModelFileError, match="no weight file of version 2"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (1000,))
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="too short"):
        WeightFiles(tmp_path).read(NAME, offset, "fp32", (1000,))


@pytest.mark.parametrize("name", ["a\0b", "a" * 10_000])
def test_a_weight_file_with_an_impossible_name_is_refused(name, tmp_path):
    with pytest.raises(ModelFileError, match="names a weight file that cannot be"):
        WeightFiles(tmp_path).read(name, 64, "fp32", (1,))


@pytest.mark.parametrize("name", ["@model_path/../weight.bin", "@model_path/weights/../../x", "/etc/passwd", ".."])
def test_a_weight_file_outside_the_package_is_refused(name, tmp_path):
    (tmp_path / "weight.bin").write_bytes(b"x" * 200)
    (tmp_path / "inside").mkdir()
    with pytest.raises(ModelFileError, match="outside its package"):
        WeightFiles(tmp_path / "inside").read(name, 64, "fp32", (1,))


def test_a_link_out_of_the_package_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"x" * 200)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "weight.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelFileError, match="outside its package"):
        WeightFiles(tmp_path / "weights").read(NAME, 64, "fp32", (1,))


def test_a_missing_weight_file_or_folder_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"weight\.bin is missing"):
        WeightFiles(tmp_path).read(NAME, 64, "fp32", (1,))
    with pytest.raises(ModelFileError, match="has no folder of weights"):
        WeightFiles(None).read(NAME, 64, "fp32", (1,))


@pytest.mark.parametrize("folder", ["", "sub/"])
def test_weight_files_have_any_name_below_the_folder(folder, tmp_path):
    write_blobs(tmp_path / "sub", ("float", np.ones(2, np.float32)))
    (tmp_path / folder / "parts.bin").write_bytes((tmp_path / "sub" / "weight.bin").read_bytes())
    files = WeightFiles(tmp_path)
    assert files.read(f"@model_path/weights/{folder}parts.bin", 64, "fp32", (2,)).tolist() == [1, 1]


IMMEDIATE = {
    "bool": np.array([[True, False]]),
    "int8": whole(np.int8, -128, 128),
    "int16": whole(np.int16, -30000, 30000),
    "int32": whole(np.int32, -(2**30), 2**30),
    "int64": whole(np.int64, -(2**60), 2**60),
    "uint8": whole(np.uint8, 0, 256),
    "uint16": whole(np.uint16, 0, 60000),
    "uint32": whole(np.uint32, 0, 2**32),
    "fp16": BLOBS["fp16"][1],
    "fp32": BLOBS["fp32"][1],
    "an empty vector": np.zeros((0,), np.int32),
}


@pytest.mark.parametrize("dtype", IMMEDIATE)
def test_every_immediate_tensor_that_coremltools_writes_is_read(dtype):
    from coremltools.converters.mil.backend.mil.helper import create_tensor_value

    array = IMMEDIATE[dtype]
    found = read_value(create_tensor_value(array), WeightFiles(None))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", ["int4", "uint1", "uint2", "uint3", "uint4", "uint6"])
def test_immediate_tensors_narrower_than_a_byte_are_unpacked(dtype):
    array = BLOBS[dtype][1]
    value = tensor_value(dtype, SHAPE)
    value.immediateValue.tensor.bytes.values = pack_bits(array, int(dtype[-1])).tobytes()
    np.testing.assert_array_equal(read_value(value, WeightFiles(None)), array)


def test_scalars_strings_lists_tuples_and_dictionaries_are_read():
    from coremltools.converters.mil.backend.mil.helper import create_list_scalarvalue, create_scalar_value

    files = WeightFiles(None)
    assert read_value(create_scalar_value(3.5), files) == 3.5
    assert read_value(create_scalar_value(7), files).shape == ()
    assert read_value(create_scalar_value("fp16"), files) == "fp16"
    assert read_value(create_list_scalarvalue(["a", "b"], str), files) == ["a", "b"]
    assert read_value(create_list_scalarvalue([3, 5], np.int64), files) == [3, 5]
    pair = proto.MIL_pb2.Value()
    pair.immediateValue.tuple.values.extend([create_scalar_value(1), create_scalar_value("x")])
    assert read_value(pair, files) == (1, "x")
    table = proto.MIL_pb2.Value()
    table.immediateValue.dictionary.values.add(key=create_scalar_value("k"), value=create_scalar_value(2))
    assert read_value(table, files) == {"k": 2}


def tensor_value(dtype, shape):
    value = proto.MIL_pb2.Value()
    value.type.tensorType.dataType = NUMBERS[dtype]
    value.type.tensorType.rank = len(shape)
    for size in shape:
        value.type.tensorType.dimensions.add().constant.size = size
    return value


def test_immediate_tensors_that_contradict_their_type_are_refused():
    value = tensor_value("fp32", (2, 3))
    with pytest.raises(ModelFileError, match="has no value"):
        read_value(value, WeightFiles(None))
    value.immediateValue.tensor.floats.values.extend([1, 2, 3])
    with pytest.raises(ModelFileError, match=r"has 3 values, which does not fit its shape \(2, 3\)"):
        read_value(value, WeightFiles(None))
    value = tensor_value("fp16", (4,))
    value.immediateValue.tensor.bytes.values = b"1234567"
    with pytest.raises(ModelFileError, match=r"has 7 bytes, which does not fit fp16 of shape \(4,\)"):
        read_value(value, WeightFiles(None))
    value = tensor_value("bf16", (1,))
    value.immediateValue.tensor.bytes.values = b"12"
    with pytest.raises(ModelFileError, match="of type bf16, which cannot be read"):
        read_value(value, WeightFiles(None))
    value = tensor_value("fp32", ())
    value.type.tensorType.rank = 1
    value.type.tensorType.dimensions.add().unknown.variadic = False
    value.immediateValue.tensor.floats.values.append(1)
    with pytest.raises(ModelFileError, match="unknown shape"):
        read_value(value, WeightFiles(None))
