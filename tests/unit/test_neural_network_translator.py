import numpy as np
import pytest
from model_makers import small_network
from network_runner import CLASSES, close, make_builder, make_engine, numbers, run
from PIL import Image

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.quiet import quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine
from pytest_quantguard.runtime.portable.neural_network.registry import supported_layers
from pytest_quantguard.runtime.portable.neural_network.translator import translate

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
"""Height 2, width 3, RGB."""


def image_engine(order="RGB", *, channels=3, rank4=False, edit=lambda network: None, **options):
    """A network that answers with its preprocessed image."""
    builder = make_builder({"x": (channels, 2, 3)}, exact=rank4)
    builder.add_activation("same", "LINEAR", "x", "y", [1.0, 0.0])
    with quiet():
        builder.set_pre_processing_parameters(image_input_names=["x"], is_bgr=order == "BGR", **options)
    if rank4:
        builder.spec.neuralNetwork.imageInputShapeMapping = 1
    edit(builder.spec.neuralNetwork)
    return make_engine(builder)


def answer(engine, pixels=PIXELS):
    return engine.predict({"x": Image.fromarray(pixels)})["y"]


def planes(order="RGB"):
    pixels = PIXELS if order == "RGB" else PIXELS[..., ::-1]
    return pixels.transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_an_image_comes_in_the_order_of_its_colour_layout(order):
    y = answer(image_engine(order))
    assert y.shape == (1, 1, 3, 2, 3)
    close(y[0, 0], planes(order))


def test_rank_four_mapping_has_no_sequence():
    close(answer(image_engine(rank4=True)), planes()[None])


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_scaler_has_a_bias_per_colour_whatever_their_order(order):
    engine = image_engine(order, red_bias=1, green_bias=2, blue_bias=3, image_scale=0.5)
    bias = np.reshape([1, 2, 3] if order == "RGB" else [3, 2, 1], (3, 1, 1))
    close(answer(engine)[0, 0], 0.5 * planes(order) + bias)


def test_the_scaler_of_a_gray_image_has_a_bias_of_its_own():
    engine = image_engine(channels=1, gray_bias=-1, image_scale=2.0)
    close(answer(engine, PIXELS[..., 0])[0, 0, 0], 2.0 * PIXELS[..., 0] - 1)


def set_mean_image(values):
    def edit(network):
        step = network.preprocessing[0]
        step.featureName = ""
        step.meanImage.meanImage.extend(values)

    return edit


def test_the_mean_image_is_in_the_order_of_the_input():
    mean = numbers(3, 2, 3)
    close(answer(image_engine("BGR", edit=set_mean_image(mean.ravel())))[0, 0], planes("BGR") - mean)


def test_a_mean_image_of_another_size_is_refused():
    with pytest.raises(ModelFileError, match=r"the mean image of input 'x' has 5 values"):
        image_engine(edit=set_mean_image([1.0] * 5))


def test_preprocessing_of_another_input_is_left_alone():
    def edit(network):
        network.preprocessing[0].featureName = "other"

    close(answer(image_engine(image_scale=0.5, edit=edit))[0, 0], planes())


def add_relu(builder, source="x", target="y"):
    builder.add_activation(f"{source}-{target}", "RELU", source, target)


def test_a_layer_without_type_is_refused_by_name():
    builder = make_builder({"x": (3,)})
    add_relu(builder)
    builder.spec.neuralNetwork.layers[0].ClearField("activation")
    with pytest.raises(UnsupportedModelError, match="layer 'x-y': type 'unknown'"):
        make_engine(builder)


def test_a_wrong_number_of_inputs_is_refused():
    builder = make_builder({"x": (3,)})
    add_relu(builder)
    builder.spec.neuralNetwork.layers[0].input.append("x")
    with pytest.raises(UnsupportedModelError, match="type 'activation' with 2 inputs"):
        make_engine(builder)


def test_a_wrong_number_of_outputs_is_refused():
    builder = make_builder({"x": (3,)})
    add_relu(builder)
    builder.spec.neuralNetwork.layers[0].output.append("z")
    with pytest.raises(UnsupportedModelError, match="type 'activation' with 2 outputs"):
        make_engine(builder)


def test_an_input_that_no_layer_produces_is_refused():
    builder = make_builder({"x": (3,)})
    add_relu(builder)
    builder.spec.neuralNetwork.layers[0].input[0] = "nowhere"
    with pytest.raises(UnsupportedModelError, match="layer 'x-y': input 'nowhere'"):
        make_engine(builder)


def test_an_output_that_no_layer_produces_is_refused():
    builder = make_builder({"x": (3,)}, ["y", "z"])
    add_relu(builder)
    with pytest.raises(UnsupportedModelError, match="no layer produces the output 'z'"):
        make_engine(builder)


@pytest.mark.parametrize(
    "add",
    [
        lambda b: b.add_fill_static("big", "y", (2**20, 2**20), 1.0),
        lambda b: b.add_tile("big", "x", "y", [2**40]),
        lambda b: b.add_constant_pad("big", ["x"], "y", 0.0, False, [2**62, 2**40]),
        lambda b: b.add_range_static("big", "y", end=1e30, start=0, step=1e-9),
    ],
)
def test_a_tensor_that_would_exhaust_the_memory_is_refused(add):
    builder = make_builder({"x": (3,)}, exact=True)
    add(builder)
    with pytest.raises(UnsupportedModelError, match="layer 'big': "):
        make_engine(builder)


def test_copy_may_replace_a_tensor():
    def layers(builder):
        builder.add_activation("double", "LINEAR", "x", "twice", [2.0, 0.0])
        builder.add_copy("again", "twice", "x")
        add_relu(builder)

    close(run(layers, {"x": np.float32([1, 2])}, exact=True), [2, 4])


def test_a_tensor_may_be_called_like_anything():
    def layers(builder):
        add_relu(builder, "constant", "reshape")
        builder.add_activation("last", "LINEAR", "reshape", "scores", [2.0, 1.0])

    x = np.abs(numbers(3))
    close(run(layers, {"constant": x}, ("scores",), exact=True), 2 * x + 1)


@pytest.mark.parametrize(
    "described, given, shape",
    [
        ((3,), (3,), (1, 1, 3, 1, 1)),
        ((3,), (2, 1, 3), (2, 1, 3, 1, 1)),
        ((3,), (2, 1, 3, 1, 1), (2, 1, 3, 1, 1)),
        ((3, 2, 2), (3, 2, 2), (1, 1, 3, 2, 2)),
        ((3, 2, 2), (4, 3, 2, 2), (1, 4, 3, 2, 2)),
        ((3, 2, 2), (5, 4, 3, 2, 2), (5, 4, 3, 2, 2)),
    ],
)
def test_rank_five_networks_take_sequence_and_batch_in_front(described, given, shape):
    builder = make_builder({"x": described})
    add_relu(builder)
    x = numbers(*given)
    close(make_engine(builder).predict({"x": x})["y"], np.maximum(x, 0).reshape(shape))


@pytest.mark.parametrize("given", [(2, 3), (4,), (1, 1, 4), (1, 3, 1, 1, 1, 1)])
def test_rank_five_networks_refuse_other_shapes(given):
    builder = make_builder({"x": (3,)})
    add_relu(builder)
    with pytest.raises(PredictionError, match=r"input 'x' takes the shape \(3,\), not"):
        make_engine(builder).predict({"x": numbers(*given)})


def test_rank_five_networks_answer_in_the_described_shape():
    for described, shape in [((3,), (3,)), ((3, 1, 1), (3, 1, 1)), ((4,), (1, 1, 3, 1, 1))]:
        builder = make_builder({"x": (3,)})
        builder.spec.description.output[0].type.multiArrayType.shape.extend(described)
        add_relu(builder)
        assert make_engine(builder).predict({"x": numbers(3)})["y"].shape == shape


def classifier(labels, layer_name=None, tensors=("logits", "scores")):
    builder = make_builder({"x": (len(CLASSES), 1, 1)}, ["scores"], mode="classifier")
    add_relu(builder, "x", tensors[0])
    builder.add_softmax("softmax", tensors[0], tensors[1])
    with quiet():
        builder.set_class_labels(labels, "label", layer_name or tensors[1])
    return builder


def test_the_probabilities_are_the_last_tensor_unless_a_name_is_given():
    x = np.float32([1, 5, 2]).reshape(3, 1, 1)
    builder = classifier(list(CLASSES))
    builder.spec.neuralNetworkClassifier.labelProbabilityLayerName = ""
    last = make_engine(builder).outputs({"x": x}).scores
    assert last.sum() == pytest.approx(1)
    builder.spec.neuralNetworkClassifier.labelProbabilityLayerName = "logits"
    assert make_engine(builder).outputs({"x": x}).scores.tolist() == [1, 5, 2]


def test_an_unknown_probability_tensor_is_refused():
    builder = classifier(list(CLASSES))
    builder.spec.neuralNetworkClassifier.labelProbabilityLayerName = "nowhere"
    with pytest.raises(UnsupportedModelError, match="the probabilities 'nowhere' are produced by no layer"):
        make_engine(builder)


def test_another_number_of_labels_than_probabilities_is_refused():
    with pytest.raises(UnsupportedModelError, match="3 probabilities for 2 labels"):
        make_engine(classifier(["cat", "dog"]))


def test_a_regressor_answers_with_a_number():
    builder = make_builder({"x": (2,)}, mode="regressor")
    builder.add_inner_product("fc", np.float32([[1, 2]]), None, 2, 1, False, "x", "y")
    output = builder.spec.description.output[0]
    output.type.doubleType.MergeFromString(b"")
    builder.spec.description.predictedFeatureName = "y"
    engine = make_engine(builder)
    assert engine.predict({"x": np.float32([3, 4])}) == {"y": 11.0}
    assert engine.outputs({"x": np.float32([3, 4])}).arrays["y"].shape == ()


def test_translating_twice_gives_the_same_graph():
    builder = classifier(list(CLASSES))
    graphs = {translate(builder.spec, name="net").onnx_model for _ in range(2)}
    assert len(graphs) == 1


def test_every_registered_layer_is_one_of_the_specification():
    from coremltools.proto import NeuralNetwork_pb2

    known = {field.name for field in NeuralNetwork_pb2.NeuralNetworkLayer.DESCRIPTOR.oneofs[0].fields}
    assert set(supported_layers()) <= known
    assert len(supported_layers()) > 120


def test_an_image_answers_in_the_described_shape_of_the_array_that_the_network_was_made_for():
    from coremltools.models.datatypes import Array
    from coremltools.models.neural_network import NeuralNetworkBuilder

    with quiet():
        builder = NeuralNetworkBuilder(
            [("x", Array(3, 2, 3))], [("y", Array(3, 2, 3))], disable_rank5_shape_mapping=True
        )
        builder.add_activation("same", "LINEAR", "x", "y", [1.0, 0.0])
        builder.set_pre_processing_parameters(image_input_names=["x"])
    close(answer(make_engine(builder)), planes())


def test_a_network_that_needs_a_sequence_is_loaded_whatever_its_input_describes():
    builder = make_builder({"x": (1, 1, 1)})
    builder.add_permute("turn", [3, 1, 2, 0], "x", "z")
    builder.add_flatten("flat", 0, "z", "f")
    builder.add_inner_product("sum", np.ones((1, 15)), None, 15, 1, False, "f", "y")
    x = numbers(15, 1, 1, 1, 1)
    assert make_engine(builder).predict({"x": x})["y"].item() == pytest.approx(x.sum(), abs=1e-5)


def test_an_image_input_of_absurd_size_is_refused_by_name():
    spec = small_network().get_spec()
    spec.description.input[0].type.imageType.width = 2**31 - 1
    spec.neuralNetworkClassifier.preprocessing[0].scaler.channelScale = 0.5
    with pytest.raises(
        UnsupportedModelError, match=r"net: input 'image': a tensor of shape \(1, 3, 8, 2147483647\)"
    ):
        PortableEngine(spec, None, name="net")


def test_an_input_without_a_type_is_named():
    spec = small_network().get_spec()
    spec.description.input[0].type.ClearField("imageType")
    with pytest.raises(ModelFileError, match="net: feature 'image' has no type that this version knows"):
        PortableEngine(spec, None, name="net")
