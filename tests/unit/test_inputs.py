import numpy as np
import pytest
from PIL import Image

from pytest_quantguard.errors import SampleError
from pytest_quantguard.inputs import make_inputs
from pytest_quantguard.models.description import ArrayFeature, ImageFeature, ModelDescription


def description(*inputs, labels=("a", "b")):
    return ModelDescription("neuralNetwork", 4, inputs, (), labels)


IMAGE = ImageFeature("image", 4, 4, "RGB")
ARRAY = ArrayFeature("x", (3,), "float32")


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / label / "one.png")
    return tmp_path


def test_a_folder_gives_images_of_the_models_size(folder):
    inputs = make_inputs(folder, description(IMAGE), model_name="m", crop_and_scale="scale_fit")
    assert inputs.names == ("a/one.png", "b/one.png")
    assert inputs.labels == ("a", "b")
    assert inputs[0]["image"].size == (4, 4)
    assert inputs.samples.preprocessing == "scale_fit"


@pytest.mark.parametrize("features", [[ARRAY], [IMAGE, ImageFeature("second", 4, 4, "RGB")], [IMAGE, ARRAY]])
def test_a_folder_needs_exactly_one_image_input(folder, features):
    with pytest.raises(SampleError, match="does not take one image and nothing else"):
        make_inputs(folder, description(*features), model_name="m")


def test_optional_inputs_do_not_count(folder):
    optional = ArrayFeature("threshold", (1,), "float64", optional=True)
    assert len(make_inputs(folder, description(IMAGE, optional), model_name="m")) == 2


def test_a_list_is_taken_as_it_is():
    samples = [{"x": np.arange(3.0)}, {"x": np.zeros(3)}]
    inputs = make_inputs(samples, description(ARRAY), model_name="m")
    assert inputs.names == ("sample 0", "sample 1")
    assert inputs[1] is samples[1]


def test_the_digest_of_a_list_depends_on_values_types_and_shapes():
    def digest(value):
        return make_inputs([{"x": value}], description(ARRAY), model_name="m").samples.digest

    values = [np.zeros(4), np.ones(4), np.zeros((2, 2)), np.zeros(4, np.float32), 0.0, Image.new("L", (2, 2))]
    assert len({digest(value) for value in values}) == len(values)
    assert digest(np.zeros((4, 2)).T) == digest(np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "is empty"),
        (["photo.png"], "neither a folder nor a list"),
        ([{"x": object()}], "no array, number or image"),
    ],
)
def test_wrong_lists_are_refused(samples, message):
    with pytest.raises(SampleError, match=message):
        make_inputs(samples, description(ARRAY), model_name="m")
