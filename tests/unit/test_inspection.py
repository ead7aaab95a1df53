"""What `inspect_model` says of models, held to the files that coremltools wrote."""

import json

import numpy as np
import pytest
from feature_model_makers import make_pipeline, new_spec
from ml_program_makers import make_spec
from model_makers import LABELS, SIZE, small_network, small_program
from network_runner import make_builder

from pytest_quantguard import Scheme
from pytest_quantguard.inspection.interface import feature_text
from pytest_quantguard.inspection.model import SYSTEMS, inspect_model
from pytest_quantguard.inspection.weights import stored_weights
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.refusals import find_refusals
from pytest_quantguard.schemes.quantize import quantize_model

ct = import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

MAKERS = {"small.mlmodel": small_network, "small.mlpackage": small_program}


@pytest.fixture(scope="module", params=MAKERS)
def path(request, tmp_path_factory):
    return save_model(MAKERS[request.param](), tmp_path_factory.mktemp("model") / request.param)


@pytest.fixture
def saved(tmp_path):
    """Writes a specification."""

    def save(spec):
        path = tmp_path / "model.mlmodel"
        path.write_bytes(spec.SerializeToString())
        return path

    return save


def test_what_a_model_is(path):
    found = inspect_model(path)
    file = read_model_file(path)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["name"], found["kind"]) == (path.name, file.spec.WhichOneof("Type"))
    assert (found["size_bytes"], found["digest"]) == (file.size_bytes, file.digest)
    assert (found["labels"], found["unsupported"], found["updatable"]) == (len(LABELS), [], False)
    (function,) = found["functions"]
    assert (function["name"], function["default"], function["states"]) == (None, True, [])
    (image,) = function["inputs"]
    assert feature_text(image) == "image RGB 8 x 8"
    texts = {entry["name"]: feature_text(entry) for entry in function["outputs"]}
    assert sorted(texts.values()) == ["dictionary by string", "string"]


def test_the_oldest_systems_are_those_that_coremltools_names():
    for version, (ios, _) in SYSTEMS.items():
        name = f"_SPECIFICATION_VERSION_IOS_{ios}"
        if hasattr(ct, name):
            assert getattr(ct, name) == version
    assert ct._SPECIFICATION_VERSION_IOS_18 == 9


def test_a_version_of_the_future_has_no_systems(saved):
    spec = small_network().get_spec()
    spec.specificationVersion = 99
    found = inspect_model(saved(spec))
    assert (found["specification_version"], found["minimum_ios"], found["minimum_macos"]) == (99, None, None)


def test_the_types_of_inputs_and_outputs():
    types = ct.proto.FeatureTypes_pb2
    spec = new_spec(
        "identity",
        {
            "gray": (8, 6, "GRAYSCALE"),
            "array": ((1, 3), "FLOAT16"),
            "anything": ((), "DOUBLE"),
            "count": "int64",
            "name": "string?",
            "words": "dictionary:int64",
            "steps": "sequence:string",
        },
        {"gray": (8, 6, "GRAYSCALE")},
    )
    images, arrays = spec.description.input[0].type.imageType, spec.description.input[1].type.multiArrayType
    images.imageSizeRange.widthRange.CopyFrom(types.SizeRange(lowerBound=4, upperBound=16))
    images.imageSizeRange.heightRange.CopyFrom(types.SizeRange(lowerBound=4, upperBound=-1))
    arrays.enumeratedShapes.shapes.add(shape=[2, 3])
    from pytest_quantguard.inspection.interface import feature_entry

    texts = {feature.name: feature_text(feature_entry(feature)) for feature in spec.description.input}
    assert texts == {
        "gray": "image GRAYSCALE 8 x 6 (flexible: 4 to any x 4 to 16)",
        "array": "array float16 1 x 3 (flexible: (1, 3) or (2, 3))",
        "anything": "array float64 of any shape",
        "count": "int64",
        "name": "string, optional",
        "words": "dictionary by int64",
        "steps": "sequence of string",
    }


def test_layers_inside_of_branches_and_loops_are_counted(saved):
    builder = make_builder({"x": (1,)}, exact=True)
    branch = builder.add_branch("branch", "x").branch
    for part in (branch.ifBranch, branch.elseBranch):
        part.layers.add(name="copy", input=["x"], output=["y"]).copy.SetInParent()
    (structure,) = inspect_model(saved(builder.spec))["functions"][0]["structure"]
    assert structure["counts"] == {"copy": 2, "branch": 1}
    assert (structure["unit"], structure["total"], structure["nested"]) == ("layers", 3, 2)


def test_operations_inside_of_branches_are_counted(tmp_path):
    from pytest_quantguard.inspection.structure import structure_entry

    def build(x):
        return mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=x, axes=[0]), y=np.float32(0)),
            _true_fn=lambda: mb.relu(x=x),
            _false_fn=lambda: mb.square(x=x),
        )

    structure = structure_entry(make_spec(build, {"x": np.float32([1, 2])}, tmp_path))
    counts = dict(structure["counts"])
    assert list(counts)[-1] == "const"
    del counts["const"]
    assert counts == {"cond": 1, "greater": 1, "reduce_sum": 1, "relu": 1, "square": 1}
    assert (structure["unit"], structure["nested"]) == ("operations", 2)


def test_a_pipeline_is_shown_stage_by_stage(saved):
    network = small_network().get_spec()
    inner = make_pipeline([network], {}, {})
    outer = make_pipeline([inner, network], {}, {})
    outer.pipeline.names.extend(["first", "second"])
    structure = inspect_model(saved(outer))["functions"][0]["structure"]
    assert [entry["stage"] for entry in structure] == ["0:first/0", "1:second"]
    assert {entry["kind"] for entry in structure} == {"neuralNetworkClassifier"}
    assert structure[0]["counts"]["convolution"] == 2


def test_trees_are_counted(saved):
    spec = new_spec("treeEnsembleRegressor", {"x": "double"}, {"y": "double"}, predicted="y")
    for tree, node in ((0, 0), (0, 1), (4, 0)):
        spec.treeEnsembleRegressor.treeEnsemble.nodes.add(treeId=tree, nodeId=node)
    (structure,) = inspect_model(saved(spec))["functions"][0]["structure"]
    assert structure["counts"] == {"nodes": 3, "trees": 2}


@pytest.mark.parametrize(
    ("scheme", "stored"),
    [
        ("linear:16", "float16"),
        ("linear:8", "8-bit linear"),
        ("linear:4", "4-bit linear"),
        ("kmeans_lut:6", "6-bit lookup table"),
        ("linear_lut:1", "1-bit lookup table"),
    ],
)
def test_the_weights_of_a_network_by_stored_type(scheme, stored):
    network = small_network()
    (before,) = stored_weights(network.get_spec())
    assert (before.type, before.size_bytes) == ("float32", 4 * before.weights)
    quantized = quantize_model(network, Scheme.parse(scheme), name="m")
    (after,) = stored_weights(quantized.mlmodel.get_spec())
    assert (after.type, after.tensors) == (stored, before.tensors)
    assert after.size_bytes * 8 == pytest.approx(quantized.compression.bits_per_weight * after.weights, rel=0.01)


@pytest.fixture(scope="module")
def newest_program():
    return small_program(ct.target.iOS18)


@pytest.mark.parametrize(
    ("scheme", "stored"),
    [
        ("kmeans_lut:6", "6-bit lookup table"),
        ("linear:8", "8-bit linear"),
        ("linear:4,unsigned", "4-bit linear"),
        ("linear:4,per_block=2,only_layers=type:linear", "4-bit linear"),
        ("kmeans_lut:4,lut_dtype=int8", "4-bit lookup table, 8-bit linear"),
        ("kmeans_lut:2,cluster_dim=2", "2-bit lookup table of vectors of 2"),
        ("kmeans_lut:4,per_channel_scale", "4-bit lookup table, scaled"),
        ("sparse:0.5", "sparse float16"),
        ("kmeans_lut:4,sparsity=0.5", "sparse 4-bit lookup table"),
        ("linear:8,sparsity=0.5", "sparse 8-bit linear"),
    ],
)
def test_the_weights_of_a_program_by_stored_type(newest_program, scheme, stored):
    quantized = quantize_model(newest_program, Scheme.parse(scheme), name="m")
    found = {group.type: group for group in stored_weights(quantized.mlmodel.get_spec())}
    assert set(found) == {stored, "float16"}
    assert found[stored].weights == quantized.compression.compressed


def test_the_weights_of_an_older_program_by_stored_type():
    program = small_program()
    for scheme, stored in (("kmeans_lut:4", "4-bit lookup table"), ("linear:8", "8-bit linear")):
        quantized = quantize_model(program, Scheme.parse(scheme), name="m").mlmodel
        assert stored in {group.type for group in stored_weights(quantized.get_spec())}


def test_each_function_of_a_package_is_shown(tmp_path):
    with quiet():
        functions = ct.utils.MultiFunctionDescriptor()
        for seed, name in enumerate("ab"):
            small_program(ct.target.iOS18, seed=seed).save(str(tmp_path / f"{name}.mlpackage"))
            functions.add_function(str(tmp_path / f"{name}.mlpackage"), "main", name)
        functions.default_function_name = "b"
        ct.utils.save_multifunction(functions, str(tmp_path / "both.mlpackage"))
    found = inspect_model(tmp_path / "both.mlpackage")["functions"]
    assert [(entry["name"], entry["default"]) for entry in found] == [("a", False), ("b", True)]
    assert all(entry["inputs"][0]["width"] == SIZE for entry in found)
    (chosen,) = inspect_model(tmp_path / "both.mlpackage", function_name="a")["functions"]
    assert chosen == found[0]


# What the portable engine cannot run


def test_every_unknown_layer_is_named():
    builder = make_builder({"x": (4,)})
    for index, (source, target) in enumerate([("x", "a"), ("a", "b"), ("x", "y")]):
        layer = builder.spec.neuralNetwork.layers.add(name=f"mine{index}", input=[source], output=[target])
        layer.custom.className = f"Mine{index}"
    reasons = find_refusals(builder.spec, None, name="m")
    assert [reason.split(":")[1] for reason in reasons] == [" layer 'mine0'", " layer 'mine1'", " layer 'mine2'"]


def test_every_layer_that_refuses_a_parameter_is_named():
    builder = make_builder({"x": (3, 4, 4)}, ("y", "z"))
    for name in ("y", "z"):
        builder.add_reduce(f"reduce_{name}", "x", name, axis="CHW", mode="sum")
        builder.spec.neuralNetwork.layers[-1].reduce.mode = 77
    reasons = find_refusals(builder.spec, None, name="m")
    assert len(reasons) == 2
    assert reasons[0].startswith("m: layer 'reduce_y': ")
    assert reasons[1].startswith("m: layer 'reduce_z': ")


def test_every_operation_that_does_not_run_is_named(tmp_path):
    def build(x):
        a = mb.relu(x=x, name="a")
        b = mb.relu(x=a, name="b")
        return mb.add(x=mb.square(x=x, name="c"), y=b, name="d")

    spec = make_spec(build, {"x": np.float32([1, 2])}, tmp_path)
    body = spec.mlProgram.functions["main"]
    for operation in body.block_specializations[body.opset].operations:
        if operation.type == "relu":
            operation.type = "swirl"
        if operation.type == "square":
            operation.inputs["softness"].CopyFrom(operation.inputs["x"])
    assert find_refusals(spec, tmp_path, name="m") == [
        "m: operation 'swirl' (output 'a') is not supported by the portable engine",
        "m: operation 'swirl' (output 'b') is not supported by the portable engine",
        "m: operation 'square' (output 'c'): parameter 'softness' is not supported by the portable engine",
    ]


def test_the_stage_that_does_not_run_is_named(saved):
    spec = small_network().get_spec()
    broken = small_network().get_spec()
    broken.neuralNetworkClassifier.layers[0].custom.className = "Mine"
    found = inspect_model(saved(make_pipeline([spec, broken], {}, {})))["unsupported"]
    assert len(found) == 1
    assert found[0].startswith("model.mlmodel: stage 1: layer 'conv1': ")


def test_a_damaged_model_is_shown_with_what_is_wrong(saved):
    spec = small_network().get_spec()
    del spec.neuralNetworkClassifier.layers[0].convolution.weights.floatValue[:5]
    (reason,) = inspect_model(saved(spec))["unsupported"]
    assert "layer 'conv1': weights: 211 values where the layer needs 216" in reason


def test_an_element_type_of_the_future_is_no_weight(tmp_path):
    spec = make_spec(lambda x: mb.add(x=x, y=np.float32([1, 2])), {"x": np.float32([1, 2])}, tmp_path)
    assert [group.type for group in stored_weights(spec)] == ["float32"]
    body = spec.mlProgram.functions["main"]
    for operation in body.block_specializations[body.opset].operations:
        for output in operation.outputs:
            output.type.tensorType.dataType = 101
    assert stored_weights(spec) == []
