"""Whole ML programs: inputs, outputs, labels, functions, and the table of operations."""

import numpy as np
import onnxruntime
import pytest
from ml_program_makers import make_spec, run_spec
from model_makers import LABELS, SIZE, small_program

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import WRITERS, operation
from pytest_quantguard.runtime.portable.ml_program.translator import translate

ct = import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

VECTOR = {"x": np.float32([1, -2, 3])}


def block_of(spec, function="main"):
    body = spec.mlProgram.functions[function]
    return body.block_specializations[body.opset]


def test_a_classifier_gives_scores_and_no_other_outputs(tmp_path):
    from pathlib import Path

    mlmodel = small_program()
    translation = translate(mlmodel.get_spec(), Path(mlmodel.weights_dir))
    assert translation.outputs == {}
    assert list(translation.inputs) == ["image"]
    session = onnxruntime.InferenceSession(translation.onnx_model)
    assert session.get_inputs()[0].shape == [1, 3, SIZE, SIZE]
    assert session.get_inputs()[0].type == "tensor(float)"
    (scores,) = session.run([translation.scores], {translation.inputs["image"]: np.ones((1, 3, SIZE, SIZE), "f4")})
    assert scores.size == len(LABELS)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAYSCALE"])
def test_images_come_with_a_batch_dimension_and_leave_without(color):
    channels = 1 if color == "GRAYSCALE" else 3
    shape = (1, channels, 4, 6)
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS15)
        def program(picture):
            return mb.sub(x=255.0, y=picture, name="negative")

        layout = getattr(ct.colorlayout, color)
        mlmodel = ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            inputs=[ct.ImageType(name="picture", shape=shape, color_layout=layout)],
            skip_model_load=True,
        )
    spec = mlmodel.get_spec()
    spec.description.output[0].type.CopyFrom(spec.description.input[0].type)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (found,) = run_spec(spec, {"picture": image}, None)
    np.testing.assert_array_equal(found, 255 - image[0])


def test_scalars_become_vectors_of_one_element(tmp_path):
    spec = make_spec(lambda x: mb.reduce_sum(x=x), VECTOR, tmp_path)
    assert run_spec(spec, VECTOR, tmp_path)[0].tolist() == [2]
    spec = make_spec(lambda x: mb.square(x=x), {"x": ((1,), "float32")}, tmp_path)
    for declared in (spec.mlProgram.functions["main"].inputs[0], block_of(spec).operations[-1].outputs[0]):
        declared.type.tensorType.rank = 0
        del declared.type.tensorType.dimensions[:]
    assert run_spec(spec, {"x": np.float32([4])}, tmp_path)[0].tolist() == [16]


def test_an_output_may_be_a_constant_or_an_input(tmp_path):
    spec = make_spec(lambda x: [mb.identity(x=x), mb.const(val=np.float32([7, 8]))], VECTOR, tmp_path)
    found = run_spec(spec, VECTOR, tmp_path)
    assert [array.tolist() for array in found] == [[1, -2, 3], [7, 8]]


def test_the_block_of_the_named_operation_set_is_taken(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x), VECTOR, tmp_path)
    spec.mlProgram.functions["main"].opset = "CoreML77"
    with pytest.raises(ModelFileError, match="no block for its operation set CoreML77"):
        translate(spec, tmp_path)
    body = spec.mlProgram.functions["main"]
    body.opset = "Other"
    body.block_specializations["Other"].CopyFrom(body.block_specializations["CoreML8"])
    with pytest.raises(UnsupportedModelError, match="operation set 'Other' is not supported"):
        translate(spec, tmp_path)


def test_values_named_alike_in_the_graph_stay_apart(tmp_path):
    """MIL names may look like those that the translator makes up."""

    def build(x):
        x = mb.square(x=x, name="scores")
        return mb.add(x=mb.softmax(x=x, name="y__1"), y=x, name="y")

    spec = make_spec(build, VECTOR, tmp_path)
    squares = VECTOR["x"] ** 2
    powers = np.exp(squares - squares.max())
    np.testing.assert_allclose(run_spec(spec, VECTOR, tmp_path)[0], powers / powers.sum() + squares, rtol=1e-6)


def test_an_operation_is_added_by_one_short_function(tmp_path, monkeypatch):
    monkeypatch.delitem(WRITERS, "relu")
    spec = make_spec(lambda x: mb.relu(x=x), VECTOR, tmp_path)
    with pytest.raises(UnsupportedModelError):
        translate(spec, tmp_path)

    @operation("relu")
    def negative(op: MilOperation) -> str:
        return op.node("Neg", op.tensor("x"))

    assert run_spec(spec, VECTOR, tmp_path)[0].tolist() == [-1, 2, -3]


def test_every_operation_of_coremltools_is_known():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    from pytest_quantguard.runtime.portable.ml_program.ops import DECODERS

    defined = {name for name in SSAOpRegistry.core_ops if not name.startswith("_")}
    assert defined - set(WRITERS) - set(DECODERS) - {"const", "classify"} == set()
