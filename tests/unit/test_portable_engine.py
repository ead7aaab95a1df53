import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from model_makers import LABELS, SIZE, small_network
from network_runner import close, make_builder, make_engine, numbers
from PIL import Image

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine
from pytest_quantguard.runtime.portable.shapes import AllowedShapes

import_coremltools()
from coremltools.models.neural_network import flexible_shape_utils  # noqa: E402
from coremltools.proto import Model_pb2  # noqa: E402


@pytest.fixture(scope="module")
def engine():
    return PortableEngine(small_network().get_spec(), None, name="small.mlmodel")


def photo(seed=0, size=(SIZE, SIZE)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def relu_engine(shape, *, exact=True, dtype=None, edit=lambda spec: None):
    builder = make_builder({"x": shape}, exact=exact)
    builder.add_activation("relu", "RELU", "x", "y")
    if dtype:
        for feature in (*builder.spec.description.input, *builder.spec.description.output):
            feature.type.multiArrayType.dataType = dtype
    edit(builder.spec)
    return make_engine(builder)


def test_a_classifier_answers_with_label_and_probabilities(engine):
    answer = engine.predict({"image": photo()})
    assert set(answer) == {"label", "probabilities"}
    probabilities = answer["probabilities"]
    assert list(probabilities) == list(LABELS)
    assert all(type(value) is float for value in probabilities.values())
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer["label"] == max(probabilities, key=probabilities.get)


def test_outputs_are_scores_in_label_order(engine):
    outputs = engine.outputs({"image": photo()})
    assert outputs.scores.dtype == np.float32
    assert outputs.scores.tolist() == list(engine.predict({"image": photo()})["probabilities"].values())
    assert outputs.arrays == {}


def test_the_engine_names_itself_and_its_version(engine):
    assert engine.name == "portable"
    assert engine.version.startswith("onnxruntime 1.")


def test_predicting_from_several_threads_gives_what_one_gives(engine):
    photos = [photo(seed) for seed in range(24)]
    alone = [engine.outputs({"image": image}).scores.tobytes() for image in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: engine.outputs({"image": image}).scores.tobytes(), photos))
    assert together == alone


def test_a_missing_input_is_named_with_the_valid_ones(engine):
    with pytest.raises(PredictionError, match=r"small\.mlmodel misses its input 'image'; its inputs are: image\."):
        engine.predict({})


def test_an_unknown_input_is_named_with_the_valid_ones(engine):
    with pytest.raises(PredictionError, match=r"small\.mlmodel has no input 'photo'; its inputs are: image\."):
        engine.predict({"image": photo(), "photo": photo()})


def test_an_image_of_another_size_is_refused(engine):
    with pytest.raises(PredictionError, match=r"input 'image' takes an image of 8 x 8 .*, not 9 x 7"):
        engine.predict({"image": photo(size=(9, 7))})


def test_an_array_for_an_image_is_refused(engine):
    with pytest.raises(PredictionError, match=r"input 'image' takes a PIL image, not ndarray"):
        engine.predict({"image": np.zeros((8, 8, 3))})


def test_an_image_for_an_array_is_refused():
    with pytest.raises(PredictionError, match=r"input 'x' takes an array, not an image"):
        relu_engine((3,)).predict({"x": photo()})


def test_text_for_an_array_is_refused():
    with pytest.raises(PredictionError, match=r"input 'x' takes an array of float64"):
        relu_engine((3,)).predict({"x": ["a", "b", "c"]})


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(PredictionError, match=r"input 'x' takes the shape \(2, 3\), not \(3, 2\)"):
        relu_engine((2, 3)).predict({"x": np.zeros((3, 2))})


FLOAT32, DOUBLE, INT32 = 65568, 65600, 131104


@pytest.mark.parametrize("dtype, name", [(FLOAT32, "float32"), (DOUBLE, "float64"), (INT32, "int32")])
def test_arrays_have_the_declared_type(dtype, name):
    answer = relu_engine((3,), dtype=dtype).predict({"x": [-1, 2, 3]})["y"]
    assert answer.dtype == name
    assert answer.tolist() == [0, 2, 3]


def test_arrays_are_cast_to_the_declared_type():
    assert relu_engine((2,), dtype=INT32).predict({"x": [1.9, 2.0]})["y"].tolist() == [1, 2]


@pytest.mark.parametrize("dtype, name", [(131104, "int32"), (131080, "int8")])
@pytest.mark.parametrize("value", [2.0**31, -1e300, np.nan, np.inf, np.uint64(2**63)])
def test_a_value_that_an_integer_type_cannot_hold_is_refused(dtype, name, value):
    with pytest.raises(PredictionError, match=f"'x' takes an array of {name}; .* does not fit into {name}"):
        relu_engine((2,), dtype=dtype).predict({"x": np.array([1, value])})


@pytest.mark.parametrize("dtype", [65568, 65552, 65600])
def test_a_value_beyond_a_float_type_becomes_infinite_without_a_warning(dtype):
    answer = relu_engine((2,), dtype=dtype).predict({"x": np.array([1e300, 1])})["y"]
    assert answer.tolist() == [np.inf, 1]


def test_an_integer_output_without_a_value_does_not_warn():
    builder = make_builder({"x": (1,)})
    builder.add_activation("relu", "RELU", "x", "y")
    builder.spec.description.output[0].type.multiArrayType.dataType = 131104
    assert make_engine(builder).predict({"x": np.array([np.nan])})["y"].dtype == np.int32


@pytest.mark.parametrize("inputs", [None, "x", [{"x": [1.0]}], 3])
def test_inputs_without_names_are_refused(inputs):
    with pytest.raises(PredictionError, match="takes one dictionary of inputs by name"):
        relu_engine((1,)).predict(inputs)


def test_nan_passes_through():
    answer = relu_engine((3,)).outputs({"x": np.float32([np.nan, 1, np.inf])}).arrays["y"]
    assert np.isnan(answer[0])
    assert answer[1:].tolist() == [1, np.inf]


def classifier(labels, probabilities="probs"):
    builder = make_builder({"x": (len(labels), 1, 1)}, ["scores"], mode="classifier")
    builder.add_activation("relu", "RELU", "x", "scores")
    with quiet():
        builder.set_class_labels(labels, "label", "scores")
    description = builder.spec.description
    description.predictedProbabilitiesName = probabilities
    for output in list(description.output):
        if output.type.WhichOneof("Type") == "dictionaryType":
            output.name = probabilities
            if not probabilities:
                description.output.remove(output)
    return make_engine(builder)


def scores(*values):
    return {"x": np.float32(values).reshape(-1, 1, 1)}


def test_the_first_label_in_order_wins_a_tie():
    assert classifier(["b", "a", "c"]).predict(scores(1, 3, 3))["label"] == "a"


def test_integer_labels_stay_integers():
    answer = classifier([7, 5]).predict(scores(0, 1))
    assert answer == {"label": 5, "probs": {7: 0.0, 5: 1.0}}
    assert type(answer["label"]) is int


def test_a_label_that_occurs_twice_keeps_its_places_in_the_scores():
    engine = classifier(["crane", "dog", "crane"])
    assert engine.outputs(scores(1, 2, 3)).scores.tolist() == [1, 2, 3]
    assert engine.predict(scores(1, 2, 3)) == {"label": "crane", "probs": {"crane": 3.0, "dog": 2.0}}


def test_without_a_name_for_the_probabilities_the_label_is_still_there():
    assert classifier(["cat", "dog"], probabilities="").predict(scores(1, 2)) == {"label": "dog"}


def test_nan_among_the_scores_stays():
    assert np.isnan(classifier(["cat", "dog"]).outputs(scores(np.nan, 2)).scores).tolist() == [True, False]


def test_an_optional_input_has_its_default_value():
    def edit(spec):
        second = spec.description.input[1].type
        second.isOptional = True
        second.multiArrayType.floatDefaultValue = 2.5

    builder = make_builder({"x": (2,), "o": (2,)}, exact=True)
    builder.add_add_broadcastable("add", ["x", "o"], "y")
    edit(builder.spec)
    engine = make_engine(builder)
    assert engine.predict({"x": [1, 2]})["y"].tolist() == [3.5, 4.5]
    assert engine.predict({"x": [1, 2], "o": [1, 1]})["y"].tolist() == [2, 3]


def test_a_default_value_that_the_type_cannot_hold_is_refused():
    def edit(spec):
        feature = spec.description.input[0].type
        feature.isOptional = True
        feature.multiArrayType.dataType = 131104
        feature.multiArrayType.doubleDefaultValue = np.nan

    engine = relu_engine((2,), edit=edit)
    with pytest.raises(PredictionError, match="default of the optional input 'x' is none: nan does not fit"):
        engine.predict({})
    assert engine.predict({"x": [1, 2]})["y"].tolist() == [1, 2]


def test_flexible_arrays_are_translated_once_per_shape():
    def edit(spec):
        with quiet():
            flexible_shape_utils.set_multiarray_ndshape_range(spec, "x", [1, 2], [-1, 4])

    engine = relu_engine((2, 3), edit=edit)
    for shape in [(2, 3), (5, 2), (1, 4), (5, 2)]:
        close(engine.predict({"x": numbers(*shape)})["y"], np.maximum(numbers(*shape), 0))
    assert len(engine._sessions) == 3
    with pytest.raises(PredictionError, match=r"takes the shape 1 to any x 2 to 4, not \(2, 5\)"):
        engine.predict({"x": numbers(2, 5)})


def test_only_so_many_shapes_are_kept_and_always_the_described_one():
    def edit(spec):
        with quiet():
            flexible_shape_utils.set_multiarray_ndshape_range(spec, "x", [1], [-1])

    engine = relu_engine((3,), edit=edit)
    for size in range(4, 30):
        assert engine.predict({"x": numbers(size)})["y"].shape == (size,)
    assert len(engine._sessions) == 8
    assert (("x", (3,)),) in engine._sessions


def test_the_described_shape_of_a_flexible_input_need_not_fit_the_network():
    def make(layer):
        builder = make_builder({"x": (1, 1)}, exact=True)
        with quiet():
            flexible_shape_utils.set_multiarray_ndshape_range(builder.spec, "x", [1, 1], [-1, -1])
        builder.add_inner_product("fc", np.eye(3), None, 3, 3, False, "x", "z")
        layer(builder)
        return make_engine(builder)

    engine = make(lambda builder: builder.add_activation("relu", "RELU", "z", "y"))
    assert engine.predict({"x": [[1, -2, 3]]})["y"].tolist() == [[1, 0, 3]]
    with pytest.raises(UnsupportedModelError, match=r"layer 'fc': .* where 3 channels are needed"):
        engine.predict({"x": [[1]]})
    with pytest.raises(UnsupportedModelError, match="layer 'own': a custom layer of class ''"):
        make(lambda builder: builder.add_custom("own", ["z"], ["y"]))


def test_a_range_of_one_size_is_one_number():
    assert str(AllowedShapes((), ranges=((1, 1), (2, 6), (0, 0), (3, None)))) == "1 x 2 to 6 x 0 x 3 to any"


def test_enumerated_shapes_are_taken():
    def edit(spec):
        with quiet():
            flexible_shape_utils.add_multiarray_ndshape_enumeration(spec, "x", [(2, 3), (4, 5)])

    engine = relu_engine((2, 3), edit=edit)
    assert engine.predict({"x": numbers(4, 5)})["y"].shape == (4, 5)
    with pytest.raises(PredictionError, match=r"takes the shape \(2, 3\) or \(4, 5\), not \(2, 5\)"):
        engine.predict({"x": numbers(2, 5)})


def flexible_image_engine(edit):
    builder = make_builder({"x": (3, 4, 6)})
    builder.add_activation("relu", "RELU", "x", "y")
    with quiet():
        builder.set_pre_processing_parameters(image_input_names=["x"])
        edit(builder.spec)
    return make_engine(builder)


def test_flexible_image_sizes_are_taken():
    sizes = [flexible_shape_utils.NeuralNetworkImageSize(8, 10)]
    engine = flexible_image_engine(lambda spec: flexible_shape_utils.add_enumerated_image_sizes(spec, "x", sizes))
    assert engine.predict({"x": photo(size=(10, 8))})["y"].shape == (1, 1, 3, 8, 10)
    assert engine.predict({"x": photo(size=(6, 4))})["y"].shape == (1, 1, 3, 4, 6)
    with pytest.raises(PredictionError, match=r"takes an image of 6 x 4 or 10 x 8 .*, not 8 x 10"):
        engine.predict({"x": photo(size=(8, 10))})


def test_image_size_ranges_are_taken():
    sizes = flexible_shape_utils.NeuralNetworkImageSizeRange((4, 5), (6, -1))
    engine = flexible_image_engine(lambda spec: flexible_shape_utils.update_image_size_range(spec, "x", sizes))
    assert engine.predict({"x": photo(size=(20, 5))})["y"].shape == (1, 1, 3, 5, 20)
    with pytest.raises(PredictionError, match=r"takes an image of 6 to any x 4 to 5 .*, not 20 x 6"):
        engine.predict({"x": photo(size=(20, 6))})


def test_a_flexible_network_may_be_used_from_several_threads():
    def edit(spec):
        with quiet():
            flexible_shape_utils.set_multiarray_ndshape_range(spec, "x", [1], [-1])

    engine, start = relu_engine((3,), edit=edit), threading.Barrier(4)

    def predict(size):
        start.wait()
        return engine.predict({"x": numbers(size)})["y"].shape

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(predict, [4, 5, 4, 6])) == [(4,), (5,), (4,), (6,)]


@pytest.mark.parametrize("kind", ["pipelineClassifier", "treeEnsembleClassifier", "glmRegressor", "scaler"])
def test_other_model_types_are_refused_by_name(kind):
    spec = Model_pb2.Model(specificationVersion=1)
    getattr(spec, kind).MergeFromString(b"")
    with pytest.raises(UnsupportedModelError, match=rf"other\.mlmodel: a model of type '{kind}' is not supported"):
        PortableEngine(spec, None, name="other.mlmodel")


def test_an_input_that_is_no_tensor_is_refused():
    builder = make_builder({"x": (3,)})
    builder.add_activation("relu", "RELU", "x", "y")
    builder.spec.description.input[0].type.stringType.MergeFromString(b"")
    with pytest.raises(UnsupportedModelError, match="input 'x': type 'stringType' is not supported"):
        make_engine(builder)


def test_a_graph_that_onnxruntime_does_not_load_is_refused(monkeypatch):
    from pytest_quantguard.runtime.portable.neural_network import translator
    from pytest_quantguard.runtime.portable.translation import Translation

    monkeypatch.setattr(translator, "translate", lambda spec, **options: Translation(b"no graph", {}, {}))
    with pytest.raises(UnsupportedModelError, match=r"net\.mlmodel is not supported .*onnxruntime does not load"):
        relu_engine((3,))


def test_a_run_that_fails_names_the_model():
    builder = make_builder({"x": (2, 3), "s": (2,)}, exact=True)
    builder.add_reshape_dynamic("reshape", ["x", "s"], "y")
    with pytest.raises(PredictionError, match=r"net\.mlmodel: the run failed: "):
        make_engine(builder).predict({"x": numbers(2, 3), "s": [4, 4]})


def test_nothing_reaches_the_terminal(capfd):
    engine = relu_engine((2, 3))
    engine.predict({"x": numbers(2, 3)})
    assert capfd.readouterr() == ("", "")


def test_answers_share_no_memory_with_the_inputs():
    from network_runner import make_builder, make_engine, numbers

    builder = make_builder({"x": (4,)}, exact=True)
    builder.add_reshape_static("same", "x", "y", [4])
    x = numbers(4)
    y = make_engine(builder).predict({"x": x})["y"]
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)
