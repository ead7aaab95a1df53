"""The ONNX file stands on its own: onnx checks it, onnxruntime runs it, and it answers as the engine does."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from ml_program_makers import make_spec
from model_makers import LABELS, SIZE, small_network, small_program
from network_runner import make_builder
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable import export
from pytest_quantguard.runtime.portable.export import export_onnx, to_onnx

ct = import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

MAKERS = {"small.mlmodel": small_network, "small.mlpackage": small_program}
PIXELS = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module", params=MAKERS)
def path(request, tmp_path_factory):
    return save_model(MAKERS[request.param](), tmp_path_factory.mktemp("model") / request.param)


def run(model, **feeds):
    """Outputs by name; the warnings of onnxruntime are errors that tests should see."""
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else model.SerializeToString())
    return dict(zip([entry.name for entry in session.get_outputs()], session.run(None, feeds), strict=True))


def declared(values):
    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_value or None for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def test_a_classifier_answers_as_the_engine_does(path, tmp_path):
    file = export_onnx(path, tmp_path / "out.onnx")
    onnx.checker.check_model(file, full_check=True)
    found = run(file.read_bytes(), image=PIXELS.transpose(2, 0, 1)[None].astype(np.float32))
    model = load_model(path, engine="portable")
    expected = model.predict({"image": Image.fromarray(PIXELS)})
    assert found.keys() == expected.keys()
    assert found[model.description.label_name].tolist() == [expected[model.description.label_name]]
    probabilities = expected[model.description.probabilities_name]
    assert found[model.description.probabilities_name].tolist() == [probabilities[label] for label in LABELS]


def test_the_file_says_what_it_takes_and_where_it_comes_from(path, tmp_path):
    model = onnx.load(export_onnx(path, tmp_path / "out.onnx"))
    assert (model.producer_name, model.graph.name) == ("pytest-quantguard", "coreml")
    assert declared(model.graph.input) == {"image": ("FLOAT", [1, 3, SIZE, SIZE])}
    (image,) = model.graph.input
    assert image.doc_string == "an image of 8 x 8 (width x height) as (batch, channels, height, width): " + (
        "RGB channels, 0 to 255"
    )
    assert image.type.denotation == "IMAGE"
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["Image.BitmapPixelFormat"] == "Rgb8"
    assert properties["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert json.loads(properties["coreml.labels"]) == list(LABELS)


def test_nothing_in_the_file_is_unused(path, tmp_path):
    graph = onnx.load(export_onnx(path, tmp_path / "out.onnx")).graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    assert {entry.name for entry in graph.initializer} <= used
    assert all(used & set(node.output) for node in graph.node)


def test_whole_number_labels_stay_whole_numbers():
    network = small_network(labels=[7, 8, 9])
    model = to_onnx(network.get_spec(), None, name="m")
    found = run(model, image=PIXELS.transpose(2, 0, 1)[None].astype(np.float32))
    assert found["label"].dtype == np.int64
    assert found["label"].tolist() == [[7, 8, 9][found["probabilities"].argmax()]]


def test_inputs_and_outputs_have_the_types_that_core_ml_declares():
    builder = make_builder({"x": (4,)})
    builder.add_copy("copy", "x", "y")
    types = ct.proto.FeatureTypes_pb2.ArrayFeatureType
    builder.spec.description.input[0].type.multiArrayType.dataType = types.DOUBLE
    builder.spec.description.output[0].type.multiArrayType.dataType = types.INT32
    model = to_onnx(builder.spec, None, name="m")
    assert declared(model.graph.input) == {"x": ("DOUBLE", [4])}
    assert declared(model.graph.output) == {"y": ("INT32", [1, 1, 4, 1, 1])}
    assert run(model, x=np.array([1.0, 2, 3, 4]))["y"].ravel().tolist() == [1, 2, 3, 4]


def test_an_image_output_is_documented():
    builder = make_builder({"x": (3, 4, 6)})
    builder.add_copy("copy", "x", "y")
    image = builder.spec.description.output[0].type.imageType
    image.height, image.width = 4, 6
    image.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value("BGR")
    model = to_onnx(builder.spec, None, name="m")
    (output,) = model.graph.output
    assert declared([output]) == {"y": ("FLOAT", [3, 4, 6])}
    assert "6 x 4 (width x height) as (channels, height, width): BGR channels, 0 to 255" in output.doc_string


def test_an_optional_input_has_its_default():
    builder = make_builder({"x": (2,), "shift": (2,)})
    builder.add_elementwise("add", ["x", "shift"], "y", "ADD")
    shift = builder.spec.description.input[1].type
    shift.isOptional = True
    shift.multiArrayType.floatDefaultValue = 5
    model = to_onnx(builder.spec, None, name="m")
    x = np.array([1, 2], np.float64)
    assert run(model, x=x)["y"].ravel().tolist() == [6, 7]
    assert run(model, x=x, shift=x)["y"].ravel().tolist() == [2, 4]


@pytest.mark.parametrize("hint", ["y", "x_computed", "y_computed", "y__1"])
def test_names_inside_the_graph_never_take_those_of_the_model(tmp_path, hint):
    spec = make_spec(
        lambda x: mb.identity(x=mb.relu(x=x, name=hint if hint != "y" else "other"), name="y"),
        {"x": np.float32([1, -2, 3])},
        tmp_path,
    )
    spec.description.input[0].type.multiArrayType.dataType = 65600
    model = to_onnx(spec, tmp_path, name="m")
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    assert run(model, x=np.array([1.0, -2, 3]))["y"].tolist() == [1, 0, 3]


def test_branches_of_a_program_are_exported(tmp_path):
    def build(x):
        return mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=x, axes=[0]), y=np.float32(0)),
            _true_fn=lambda: mb.add(x=x, y=x),
            _false_fn=lambda: mb.square(x=x),
            name="y",
        )

    spec = make_spec(build, {"x": np.float32([1, -2, 3])}, tmp_path)
    model = to_onnx(spec, tmp_path, name="m")
    assert run(model, x=np.float32([1, -2, 3]))["y"].tolist() == [2, -4, 6]
    assert run(model, x=np.float32([1, -2, -3]))["y"].tolist() == [1, 4, 9]


def test_float16_rounds_each_tensor(tmp_path):
    spec = make_spec(lambda x: mb.add(x=mb.mul(x=x, y=x), y=x, name="y"), {"x": np.float16([300])}, tmp_path)
    spec.description.output[0].type.multiArrayType.dataType = 65568
    feeds = {"x": np.float16([300])}
    assert run(to_onnx(spec, tmp_path, name="m"), **feeds)["y"].tolist() == [90300]
    assert run(to_onnx(spec, tmp_path, name="m", precision="float16"), **feeds)["y"].tolist() == [np.inf]


@pytest.mark.skipif(not hasattr(ct, "StateType"), reason="this coremltools has no states")
def test_a_state_is_an_input_and_an_output():
    from coremltools.converters.mil.mil import types

    with quiet():

        @mb.program(
            input_specs=[mb.TensorSpec((3,), dtype=types.fp16), mb.StateTensorSpec((3,), dtype=types.fp16)],
            opset_version=ct.target.iOS18,
        )
        def program(x, total):
            return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x), name="y")

        mlmodel = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
    model = to_onnx(mlmodel.get_spec(), None, name="m")
    assert [value.name for value in model.graph.input] == ["x", "total"]
    assert [value.name for value in model.graph.output] == ["y", "total_written"]
    assert model.graph.input[1].doc_string.startswith("a state: feed the output back")
    found = run(model, x=np.ones(3, np.float16), total=np.float32([1, 2, 3]))
    assert found["total_written"].tolist() == [2, 3, 4]


def test_a_pipeline_is_refused_by_its_type(tmp_path):
    spec = ct.proto.Model_pb2.Model(specificationVersion=4)
    spec.pipeline.models.add().CopyFrom(small_network().get_spec())
    with pytest.raises(UnsupportedModelError) as caught:
        to_onnx(spec, None, name="m.mlmodel")
    assert str(caught.value) == (
        "m.mlmodel is a model of type 'pipeline', which is not computed as one ONNX graph; only neural networks "
        "and ML programs can be exported."
    )


def test_control_flow_of_a_network_is_refused():
    builder = make_builder({"x": (1,)}, exact=True)
    branch = builder.add_branch("branch", "x").branch
    for part in (branch.ifBranch, branch.elseBranch):
        layer = part.layers.add(name="copy", input=["x"], output=["y"])
        layer.copy.SetInParent()
    with pytest.raises(UnsupportedModelError, match=r"m decides by its input values .* cannot be exported"):
        to_onnx(builder.spec, None, name="m")


def test_an_unsupported_layer_is_named():
    builder = make_builder({"x": (4,)})
    layer = builder.spec.neuralNetwork.layers.add(name="mine", input=["x"], output=["y"])
    layer.custom.className = "Mine"
    with pytest.raises(UnsupportedModelError, match="layer 'mine': "):
        to_onnx(builder.spec, None, name="m")


def test_a_model_beyond_the_limit_of_a_file_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_BYTES", 10_000)
    with pytest.raises(UnsupportedModelError, match=r"takes more than 2 GB with float32 weights"):
        export_onnx(path, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_overwritten_unasked(path, tmp_path):
    target = tmp_path / "out.onnx"
    target.write_text("precious")
    with pytest.raises(ModelFileError, match="exists already"):
        export_onnx(path, target)
    assert target.read_text() == "precious"
    export_onnx(path, target, overwrite=True)
    assert list(tmp_path.iterdir()) == [target]
    onnx.load(target)


def test_a_folder_that_cannot_be_written_is_named(path, tmp_path):
    with pytest.raises(ModelFileError, match=r"missing/out\.onnx cannot be written"):
        export_onnx(path, tmp_path / "missing" / "out.onnx")


def test_a_path_that_no_file_can_have_is_named(path, tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "out.onnx", tmp_path / f"{'x' * 300}.onnx"):
        with pytest.raises(ModelFileError, match="cannot be written"):
            export_onnx(path, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_gray_image_of_half_floats_is_exported_without_a_pixel_format():
    builder = make_builder({"x": (1, 2, 3)})
    builder.add_activation("scale", "LINEAR", "x", "y", [2.0, 0.0])
    for feature in (*builder.spec.description.input, *builder.spec.description.output):
        feature.type.imageType.width, feature.type.imageType.height = 3, 2
        feature.type.imageType.colorSpace = 40  # GRAYSCALE_FLOAT16
    model = to_onnx(builder.spec, None, name="gray.mlmodel")
    assert run(model, x=np.full((1, 1, 2, 3), 300, np.float32))["y"].tolist() == np.full((1, 2, 3), 600).tolist()
    keys = [entry.key for entry in model.metadata_props]
    assert "coreml.input.x" in keys and "Image.BitmapPixelFormat" not in keys


def test_two_exports_are_equal_in_every_byte(path, tmp_path):
    files = [export_onnx(path, tmp_path / name) for name in ("a.onnx", "b.onnx")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_input_that_the_program_does_not_have_is_left_out(tmp_path):
    spec = make_spec(lambda x: mb.relu(x=x, name="y"), {"x": np.float32([1, -2, 3])}, tmp_path)
    spec.description.input.add(name="unused").CopyFrom(spec.description.input[0])
    spec.description.input[1].name = "unused"
    spec.description.input[1].type.isOptional = True
    model = to_onnx(spec, tmp_path, name="m")
    assert [value.name for value in model.graph.input] == ["x"]
