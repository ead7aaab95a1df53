"""What the translator of ML programs refuses by name, and what it calls damaged."""

import contextlib

import numpy as np
import pytest
from ml_program_makers import make_spec
from model_makers import small_program

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.registry import operation, weight_operation
from pytest_quantguard.runtime.portable.ml_program.translator import translate

ct = import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

VECTOR = {"x": np.float32([1, -2, 3])}


def block_of(spec, function="main"):
    body = spec.mlProgram.functions[function]
    return body.block_specializations[body.opset]


def test_an_unknown_operation_is_refused_by_name(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x, name="sharp"), VECTOR, tmp_path)
    block_of(spec).operations[-1].type = "swirl"
    with pytest.raises(UnsupportedModelError) as caught:
        translate(spec, tmp_path)
    message = "operation 'swirl' (output 'sharp') is not supported by the portable engine"
    assert str(caught.value) == message


def test_an_unknown_parameter_is_refused_rather_than_ignored(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x, name="sharp"), VECTOR, tmp_path)
    message = block_of(spec).operations[-1]
    message.inputs["softness"].CopyFrom(message.inputs["x"])
    with pytest.raises(UnsupportedModelError, match=r"\(output 'sharp'\): parameter 'softness' is not supported"):
        translate(spec, tmp_path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: mb.gelu(x=x, mode="EXACT"), "operation 'gelu' (output 'y'): mode 'OTHER' is not supported"),
        (lambda x: mb.cast(x=x, dtype="int32"), "operation 'cast' (output 'y'): dtype 'OTHER' is not supported"),
    ],
)
def test_an_unknown_parameter_value_is_refused_by_name(build, message, tmp_path):
    spec = make_spec(lambda x: mb.identity(x=build(x), name="z"), VECTOR, tmp_path)
    for entry in block_of(spec).operations:
        if entry.type == "const":
            tensor = entry.attributes["val"].immediateValue.tensor
            if tensor.WhichOneof("value") == "strings":
                tensor.strings.values[0] = "OTHER"
        elif entry.type in ("gelu", "cast"):
            entry.outputs[0].name = "y"
        else:
            entry.inputs["x"].arguments[0].name = "y"
    with pytest.raises(UnsupportedModelError) as caught:
        translate(spec, tmp_path)
    assert str(caught.value) == f"{message} by the portable engine"


def test_a_parameter_that_must_be_known_and_is_not_is_refused_by_name(tmp_path):
    def build(x, sizes):
        return mb.split(x=x, split_sizes=[1, 2], axis=0, name="parts")

    inputs = {**VECTOR, "sizes": np.int32([1, 2])}
    spec = make_spec(build, inputs, tmp_path)
    block_of(spec).operations[-1].inputs["split_sizes"].arguments[0].name = "sizes"
    with pytest.raises(UnsupportedModelError, match="input 'split_sizes' that is no constant is not supported"):
        translate(spec, tmp_path)


def test_a_program_that_uses_what_it_never_computes_is_damaged(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x), VECTOR, tmp_path)
    block_of(spec).operations[-1].inputs["x"].arguments[0].name = "ghost"
    with pytest.raises(ModelFileError, match="uses the value 'ghost', which it never computes"):
        translate(spec, tmp_path)


def test_a_missing_parameter_is_damage(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x, name="y"), VECTOR, tmp_path)
    del block_of(spec).operations[-1].inputs["x"]
    with pytest.raises(ModelFileError, match=r"operation 'relu' \(output 'y'\) misses its input 'x'"):
        translate(spec, tmp_path)


def test_an_output_that_is_not_computed_is_damage(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x, name="y"), VECTOR, tmp_path)
    spec.description.output[0].name = "other"
    with pytest.raises(ModelFileError, match="does not compute the model's output 'other'"):
        translate(spec, tmp_path)


def test_an_axis_out_of_range_is_damage(tmp_path):
    spec = make_spec(lambda x: mb.softmax(x=x, axis=0, name="y"), VECTOR, tmp_path)
    block_of(spec).operations[0].attributes["val"].immediateValue.tensor.ints.values[0] = 3
    with pytest.raises(ModelFileError, match=r"\(output 'y'\): axis 3 is no axis of 1 dimensions"):
        translate(spec, tmp_path)


def test_an_operation_is_registered_once():
    with pytest.raises(AssertionError, match="relu is registered twice"):
        operation("relu")(lambda op: "x")
    with pytest.raises(AssertionError, match="constexpr_cast is registered twice"):
        weight_operation("constexpr_cast")(lambda op: op.constant("x"))


@pytest.mark.parametrize("seed", range(5))
def test_a_program_with_flipped_bytes_is_translated_or_refused(seed, tmp_path):
    from pathlib import Path

    from coremltools import proto
    from google.protobuf.message import DecodeError

    mlmodel = small_program()
    data = mlmodel.get_spec().SerializeToString()
    generator = np.random.default_rng(seed)
    survived = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[generator.integers(len(data))] = generator.integers(256)
        spec = proto.Model_pb2.Model()
        try:
            spec.ParseFromString(bytes(damaged))
        except DecodeError:
            continue
        if spec.WhichOneof("Type") == "mlProgram":
            survived += 1
            with contextlib.suppress(ModelFileError, UnsupportedModelError):
                translate(spec, Path(mlmodel.weights_dir))
    assert survived


def test_parameters_that_do_not_fit_together_are_damage(tmp_path):
    spec = make_spec(
        lambda x: mb.crop(x=x, crop_height=[1, 0], crop_width=[0, 3], name="y"),
        {"x": np.ones((1, 4, 4), "f4")},
        tmp_path,
    )
    for entry in block_of(spec).operations:
        if entry.type == "const":
            entry.attributes["val"].immediateValue.tensor.ints.values.append(0)
            for declared in (entry.attributes["val"].type, entry.outputs[0].type):
                declared.tensorType.dimensions[0].constant.size = 3
    with pytest.raises(ModelFileError, match=r"\(output 'y'\) has parameters that do not fit together"):
        translate(spec, tmp_path)


def test_constants_that_cannot_be_computed_are_damage(tmp_path):
    spec = make_spec(
        lambda x: mb.add(x=x, y=mb.square(x=np.float32([1, 2]), name="y")), {"x": np.ones(2, "f4")}, tmp_path
    )
    for entry in block_of(spec).operations:
        if entry.type == "square":
            entry.type = "reduce_sum"
            entry.inputs["axes"].arguments.add().value.CopyFrom(axes_value([5]))
    with pytest.raises(ModelFileError, match=r"\(output 'y'\) cannot be computed with its constants"):
        translate(spec, tmp_path)


def axes_value(numbers):
    from coremltools.converters.mil.backend.mil.helper import create_tensor_value

    return create_tensor_value(np.int32(numbers))
