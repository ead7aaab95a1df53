"""Pipelines: stages by name, networks among them, classifiers at their end, and what is refused."""

import time

import numpy as np
import pytest
from feature_model_makers import add_tree, classifier_spec, make_pipeline, new_spec, run, set_labels
from model_makers import LABELS, SIZE, small_network, small_program
from network_runner import make_builder
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

IMAGE = {"image": (SIZE, SIZE, "RGB")}


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))


def scaler(taken="x", given="scaled", size=3, scale=2.0):
    spec = new_spec("scaler", {taken: ((size,), "DOUBLE")}, {given: ((size,), "DOUBLE")})
    spec.scaler.scaleValue.append(scale)
    return spec


def network(taken, given, matrix):
    """A neural network that multiplies by a matrix, double precision at its ends."""
    rows, columns = matrix.shape
    builder = make_builder({taken: (columns,)}, (given,), exact=True)
    with quiet():
        builder.add_inner_product("fc", matrix, None, columns, rows, False, taken, given)
    output = builder.spec.description.output[0].type.multiArrayType
    output.dataType = output.DOUBLE
    output.shape[:] = [rows]
    return builder.spec


def linear_classifier(taken, weights, labels=("low", "high")):
    spec = classifier_spec("glmClassifier", {taken: ((len(weights),), "DOUBLE")}, labels)
    spec.glmClassifier.weights.add().value.extend(weights)
    spec.glmClassifier.offset.append(0.0)
    return spec


def features_of_image(given="features"):
    """The small network without its last softmax: the logits as a multi-array."""
    spec = small_network().get_spec()
    classifier = spec.neuralNetworkClassifier
    extractor = new_spec("neuralNetwork", IMAGE, {given: ((len(LABELS),), "DOUBLE")})
    extractor.neuralNetwork.layers.extend(classifier.layers[:-1])
    extractor.neuralNetwork.layers[-1].output[0] = given
    extractor.neuralNetwork.preprocessing.extend(classifier.preprocessing)
    return extractor


def test_a_pipeline_passes_features_on_by_name():
    matrix = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]])
    extractor = new_spec("arrayFeatureExtractor", {"z": ((2,), "DOUBLE")}, {"y": "double"})
    extractor.arrayFeatureExtractor.extractIndex.append(1)
    spec = make_pipeline(
        [scaler(), network("scaled", "z", matrix), extractor],
        {"x": ((3,), "DOUBLE")},
        {"y": "double", "z": ((2,), "DOUBLE"), "x": ((3,), "DOUBLE")},
    )
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    answer = engine.predict({"x": [1, 2, 3]})
    np.testing.assert_allclose(answer["z"], [28.0, -1.0])
    np.testing.assert_array_equal(answer["x"], [1, 2, 3])
    assert answer["y"] == -1.0
    assert engine.version.startswith("onnxruntime ")
    assert engine.name == "portable"


def test_a_later_stage_may_replace_a_feature():
    spec = make_pipeline([scaler("x", "x"), scaler("x", "x")], {"x": ((3,), "DOUBLE")}, {"x": ((3,), "DOUBLE")})
    np.testing.assert_array_equal(run(spec, x=[1, 2, 3])["x"], [4, 8, 12])


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier"])
def test_a_classifier_behind_an_image_network_classifies(kind):
    classifier = linear_classifier("features", np.linspace(-1, 1, len(LABELS)))
    spec = make_pipeline(
        [features_of_image(), classifier],
        IMAGE,
        {"label": "string", "probabilities": "dictionary:string"},
        kind=kind,
        predicted="label" if kind == "pipelineClassifier" else "",
        probabilities="probabilities" if kind == "pipelineClassifier" else "",
    )
    description = describe(spec)
    assert (description.labels, description.label_name) == (("low", "high"), "label")
    assert description.probabilities_name == "probabilities"
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    logits = PortableEngine(features_of_image(), None, name="net").predict({"image": picture()})["features"]
    expected = 1 / (1 + np.exp(-logits @ np.linspace(-1, 1, len(LABELS))))
    answer, outputs = engine.predict({"image": picture()}), engine.outputs({"image": picture()})
    assert answer["probabilities"]["high"] == pytest.approx(expected, rel=1e-6)
    assert answer["label"] == ("high" if expected > 0.5 else "low")
    np.testing.assert_allclose(outputs.scores, [1 - expected, expected], rtol=1e-5)
    assert outputs.arrays == {}


def test_trees_behind_an_image_network_classify():
    trees = classifier_spec("treeEnsembleClassifier", {"features": ((len(LABELS),), "DOUBLE")}, (7, 8))
    trees.treeEnsembleClassifier.treeEnsemble.numPredictionDimensions = 1
    branch = {"feature": 0, "value": 0.0, "yes": 0.9, "no": 0.2}
    add_tree(trees.treeEnsembleClassifier.treeEnsemble, branch, 0)
    spec = make_pipeline(
        [features_of_image(), trees],
        IMAGE,
        {"label": "int64"},
        kind="pipelineClassifier",
        predicted="label",
    )
    logits = PortableEngine(features_of_image(), None, name="net").predict({"image": picture()})["features"]
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    assert engine.predict({"image": picture()}) == {"label": 8 if logits[0] <= 0 else 7}
    second = 0.9 if logits[0] <= 0 else 0.2
    np.testing.assert_allclose(engine.outputs({"image": picture()}).scores, [1 - second, second], rtol=1e-6)
    assert describe(spec).labels == (7, 8)


def test_a_network_classifier_in_a_pipeline_keeps_labels_and_scores():
    ct = import_coremltools()
    alone = small_network()
    spec = make_pipeline(
        [alone.get_spec()], IMAGE, {"label": "string", "probabilities": "dictionary:string"}, kind="pipeline"
    )
    model = load_model(ct.models.MLModel(spec, skip_model_load=True))
    assert model.labels == LABELS
    expected = load_model(alone)
    assert model.predict({"image": picture()}) == expected.predict({"image": picture()})
    np.testing.assert_array_equal(
        model.outputs({"image": picture()}).scores, expected.outputs({"image": picture()}).scores
    )


def test_the_label_may_be_mapped_behind_the_classifier():
    mapping = new_spec("categoricalMapping", {"label": "string"}, {"number": "int64"})
    mapping.categoricalMapping.stringToInt64Map.map.update({"low": 1, "high": 2})
    spec = make_pipeline(
        [linear_classifier("x", [1.0, 0.0, 0.0]), mapping],
        {"x": ((3,), "DOUBLE")},
        {"number": "int64"},
        kind="pipelineClassifier",
        predicted="number",
    )
    assert run(spec, x=[5, 0, 0]) == {"number": 2}
    assert describe(spec).labels == ("low", "high")


def test_pipelines_nest():
    inner = make_pipeline([scaler("x", "a")], {"x": ((3,), "DOUBLE")}, {"a": ((3,), "DOUBLE")})
    middle = make_pipeline([inner, scaler("a", "b")], {"x": ((3,), "DOUBLE")}, {"b": ((3,), "DOUBLE")})
    spec = make_pipeline(
        [middle, linear_classifier("b", [1.0, 1.0, 1.0])],
        {"x": ((3,), "DOUBLE")},
        {"label": "string", "probabilities": "dictionary:string"},
    )
    outer = make_pipeline([spec], {"x": ((3,), "DOUBLE")}, {"label": "string"})
    assert run(outer, x=[0.1, 0.2, 0.3]) == {"label": "high"}
    assert describe(outer).labels == ("low", "high")
    engine = FeatureModelEngine(outer, None, name="model.mlmodel")
    assert engine.outputs({"x": [0.1, 0.2, 0.3]}).scores[1] == pytest.approx(1 / (1 + np.exp(-2.4)))
    assert engine.version == f"numpy {np.__version__}"


def test_deep_nesting_is_read_in_no_time():
    spec = linear_classifier("x", [1.0, 1.0, 1.0])
    for _ in range(25):
        spec = make_pipeline([spec], {"x": ((3,), "DOUBLE")}, {"label": "string"}, kind="pipelineClassifier")
    started = time.perf_counter()
    assert run(spec, x=[1, 1, 1]) == {"label": "high"}
    assert time.perf_counter() - started < 5


def test_an_image_of_one_network_is_the_input_of_the_next():
    def inverted(taken, given):
        spec = new_spec("neuralNetwork", {taken: (4, 2, "BGR")}, {given: (4, 2, "RGB")})
        layer = spec.neuralNetwork.layers.add(name="invert", input=[taken], output=[given])
        layer.activation.linear.alpha, layer.activation.linear.beta = -1.0, 255.0
        return spec

    spec = make_pipeline(
        [inverted("photo", "middle"), inverted("middle", "result")],
        {"photo": (4, 2, "RGB")},
        {"middle": (4, 2, "RGB"), "result": (4, 2, "RGB")},
    )
    spec.pipeline.models[1].description.input[0].type.imageType.colorSpace = 20
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 4, 3)).astype(np.uint8))
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    answer = engine.predict({"photo": photo})
    assert answer["result"].mode == "RGBA"
    # The first network takes BGR and gives RGB: red and blue change places.
    np.testing.assert_array_equal(np.asarray(answer["result"])[..., :3], np.asarray(photo)[..., ::-1])
    outputs = engine.outputs({"photo": photo})
    np.testing.assert_array_equal(outputs.arrays["middle"], 255 - np.asarray(photo)[..., ::-1])
    assert outputs.scores is None


def test_ml_programs_in_a_pipeline_read_their_own_weights(tmp_path):
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(8, 20)).astype(np.float32), rng.normal(size=(2, 8)).astype(np.float32)

    def program(taken, given, matrix):
        with quiet():

            @mb.program(input_specs=[mb.TensorSpec(shape=(1, matrix.shape[1]))], opset_version=ct.target.iOS15)
            def build(x):
                return mb.linear(x=x, weight=matrix, bias=np.zeros(len(matrix), np.float32), name=given)

            model = ct.convert(
                build, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32, skip_model_load=True
            )
            spec = model.get_spec()
            ct.utils.rename_feature(spec, "x", taken)
            return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)

    with quiet():
        pipeline = ct.utils.make_pipeline(program("x0", "y0", matrices[0]), program("y0", "y1", matrices[1]))
        pipeline.save(str(tmp_path / "two.mlpackage"))
    model = load_model(tmp_path / "two.mlpackage", engine="portable")
    x = rng.normal(size=(1, 20)).astype(np.float32)
    np.testing.assert_allclose(model.predict({"x0": x})["y1"], x @ matrices[0].T @ matrices[1].T, rtol=1e-4)


def test_a_program_classifier_in_a_pipeline_keeps_labels():
    program = small_program()
    spec = make_pipeline([program.get_spec()], IMAGE, {"classLabel": "string"}, version=7)
    assert describe(spec).labels == LABELS
    assert describe(spec).label_name == "classLabel"


def test_an_optional_input_of_a_network_has_its_default_in_a_pipeline():
    spec = new_spec(
        "neuralNetwork", {"x": ((2,), "DOUBLE"), "y": ((2,), "DOUBLE?")}, {"z": ((2,), "DOUBLE")}, version=5
    )
    spec.description.input[1].type.multiArrayType.doubleDefaultValue = 0.5
    spec.neuralNetwork.arrayInputShapeMapping = 1
    spec.neuralNetwork.layers.add(name="add", input=["x", "y"], output=["z"]).addBroadcastable.SetInParent()
    pipeline = make_pipeline(
        [spec], {"x": ((2,), "DOUBLE"), "y": ((2,), "DOUBLE?")}, {"z": ((2,), "DOUBLE")}, version=5
    )
    np.testing.assert_array_equal(run(pipeline, x=[1, 2])["z"], [1.5, 2.5])
    np.testing.assert_array_equal(run(pipeline, x=[1, 2], y=[1, 1])["z"], [2, 3])


def test_updatable_networks_and_pipelines_predict_like_any_other():
    spec = network("x", "z", np.array([[1.0, 2.0, 3.0]]))
    spec.isUpdatable = spec.neuralNetwork.layers[0].isUpdatable = True
    spec.neuralNetwork.layers[0].innerProduct.weights.isUpdatable = True
    spec.neuralNetwork.updateParams.epochs.defaultValue = 10
    spec.description.trainingInput.add().MergeFrom(spec.description.input[0])
    assert PortableEngine(spec, None, name="net").predict({"x": [1, 1, 1]})["z"].tolist() == [6.0]
    pipeline = make_pipeline([spec], {"x": ((3,), "DOUBLE")}, {"z": ((1,), "DOUBLE")})
    pipeline.isUpdatable = True
    assert run(pipeline, x=[1, 1, 1])["z"].tolist() == [6.0]


@pytest.mark.parametrize(("kind", "value", "result"), [("double", 2.5, float), ("int64", 3.0, int)])
def test_a_network_regressor_gives_a_number_of_the_described_type(kind, value, result):
    spec = new_spec("neuralNetworkRegressor", {"x": ((1,), "DOUBLE")}, {"y": kind}, predicted="y")
    spec.neuralNetworkRegressor.arrayInputShapeMapping = 1
    layer = spec.neuralNetworkRegressor.layers.add(name="same", input=["x"], output=["y"])
    layer.activation.linear.alpha = 1.0
    answer = PortableEngine(spec, None, name="net").predict({"x": [value]})["y"]
    assert answer == value
    assert type(answer) is result


def test_stages_that_do_not_fit_are_refused_by_their_place():
    array = {"x": ((3,), "DOUBLE")}
    with pytest.raises(ModelFileError, match=r"^model\.mlmodel: the pipeline has no models; export"):
        run(make_pipeline([], array, array), x=[1, 2, 3])
    with pytest.raises(ModelFileError, match=r"^model\.mlmodel, model 2 of 2: nothing gives its input 'other'"):
        run(make_pipeline([scaler(), scaler("other")], array, array), x=[1, 2, 3])
    with pytest.raises(ModelFileError, match=r"^model\.mlmodel: nothing gives the output 'y'"):
        run(make_pipeline([scaler()], array, {"y": "double"}), x=[1, 2, 3])
    empty = new_spec("scaler", array, array)
    empty.ClearField("Type")
    with pytest.raises(ModelFileError, match=r"^model\.mlmodel, model 1 of 1 names no model type"):
        run(make_pipeline([empty], array, array), x=[1, 2, 3])


def test_a_layer_that_does_not_run_is_named_with_its_stage():
    spec = network("x", "z", np.eye(3))
    spec.neuralNetwork.layers[0].custom.className = "Swirl"
    pipeline = make_pipeline([scaler(), spec], {"x": ((3,), "DOUBLE")}, {"z": ((3,), "DOUBLE")})
    with pytest.raises(UnsupportedModelError, match=r"^model\.mlmodel, model 2 of 2: layer 'fc': .*not supported"):
        FeatureModelEngine(pipeline, None, name="model.mlmodel")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("visionFeaturePrint", "part of Apple's operating systems"),
        ("audioFeaturePrint", "part of Apple's operating systems"),
        ("soundAnalysisPreprocessing", "computed by Apple's operating systems"),
        ("textClassifier", "Natural Language framework"),
        ("wordTagger", "Natural Language framework"),
        ("gazetteer", "Natural Language framework"),
        ("wordEmbedding", "Natural Language framework"),
        ("linkedModel", "refers to another compiled model"),
        ("customModel", "a class of your app"),
        ("serializedModel", "private to Apple's framework"),
    ],
)
def test_what_needs_apple_or_the_app_is_refused_by_name_with_the_reason(kind, reason):
    spec = new_spec(kind, IMAGE, {"features": ((2048,), "DOUBLE")})
    pattern = f"a model of type '{kind}'.* is not supported by the portable engine: .*{reason}"
    with pytest.raises(UnsupportedModelError, match=rf"^model\.mlmodel: {pattern}"):
        FeatureModelEngine(spec, None, name="model.mlmodel")
    pipeline = make_pipeline([spec], IMAGE, {"features": ((2048,), "DOUBLE")})
    with pytest.raises(UnsupportedModelError, match=rf"^model\.mlmodel, model 1 of 1: {pattern}"):
        FeatureModelEngine(pipeline, None, name="model.mlmodel")


def test_a_custom_model_is_refused_with_its_class():
    spec = new_spec("customModel", {"x": "double"}, {"y": "double"})
    spec.customModel.className = "MyModel"
    with pytest.raises(UnsupportedModelError, match=r"of type 'customModel' \(MyModel\) is not supported"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_these_models_have_no_states():
    engine = FeatureModelEngine(scaler(), None, name="model.mlmodel")
    assert engine.predict({"x": [1, 2, 3]}, engine.make_state())["scaled"].tolist() == [2, 4, 6]
    with pytest.raises(PredictionError, match="the state is not one of this model"):
        engine.predict({"x": [1, 2, 3]}, object())


def test_outputs_for_measuring_are_arrays():
    spec = new_spec("identity", {"a": "double", "b": "string"}, {"a": "double", "b": "string"})
    arrays = FeatureModelEngine(spec, None, name="m").outputs({"a": 1.5, "b": "text"}).arrays
    assert (arrays["a"].shape, arrays["a"].item()) == ((), 1.5)
    assert arrays["b"].dtype.kind == "U"


def test_a_label_that_stands_twice_keeps_its_places_in_the_scores():
    spec = classifier_spec("glmClassifier", {"x": ((3,), "DOUBLE")}, ("a", "b"))
    spec.glmClassifier.ClearField("stringClassLabels")
    set_labels(spec.glmClassifier, ("a", "b", "a"))
    for row in np.eye(3)[1:]:
        spec.glmClassifier.weights.add().value.extend(row)
    spec.glmClassifier.offset.extend([0.0, 0.0])
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    powers = np.exp([0.0, 1.0, 2.0])
    answer = engine.predict({"x": [0, 1, 2]})
    assert answer["label"] == "a"
    assert answer["probabilities"] == pytest.approx({"a": powers[2] / powers.sum(), "b": powers[1] / powers.sum()})
    np.testing.assert_allclose(engine.outputs({"x": [0, 1, 2]}).scores, powers / powers.sum(), rtol=1e-6)
