import platform

import numpy as np
import pytest
from model_makers import small_network
from PIL import Image

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.runtime.coreml import CoreMLEngine


class StandIn:
    """What the engine uses of a coremltools `MLModel`."""

    def __init__(self, answer, labels=("apple", "bread", "apple")):
        self.answer, self.inputs = answer, None
        self.spec = small_network(labels=labels).get_spec()

    def get_spec(self):
        return self.spec

    def predict(self, inputs, state=None):
        self.inputs, self.state = inputs, state
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def macos(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))


def test_elsewhere_than_on_macos_it_says_what_to_use(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    message = r"food\.mlmodel cannot run with engine='coreml': .* macOS only; use engine='portable'"
    with pytest.raises(UnsupportedModelError, match=message):
        CoreMLEngine(StandIn({}), name="food.mlmodel")


def test_it_names_itself_and_the_system(macos):
    engine = CoreMLEngine(StandIn({}), name="food.mlmodel")
    assert engine.name == "coreml"
    assert engine.version == "macOS 15.2"


def test_predict_passes_inputs_and_answer_through(macos):
    model = StandIn({"label": "bread"})
    assert CoreMLEngine(model, name="food.mlmodel").predict({"image": "picture"}) == {"label": "bread"}
    assert model.inputs == {"image": "picture"}


def test_scores_are_in_label_order_and_a_repeated_label_counts_once(macos):
    model = StandIn({"label": "bread", "probabilities": {"bread": 0.75, "apple": 0.25}})
    outputs = CoreMLEngine(model, name="food.mlmodel").outputs({})
    assert outputs.scores.dtype == np.float32
    assert outputs.scores.tolist() == [0.25, 0.75, 0]
    assert outputs.arrays == {}


def test_images_and_arrays_are_measured_as_arrays(macos):
    model = StandIn({"picture": Image.new("RGBA", (3, 2), (1, 2, 3, 255)), "numbers": np.ones((2, 2)), "one": 1.5})
    model.spec.neuralNetworkClassifier.ClearField("stringClassLabels")
    arrays = CoreMLEngine(model, name="food.mlmodel").outputs({}).arrays
    assert arrays["picture"].shape == (2, 3, 3)
    assert arrays["picture"][0, 0].tolist() == [1, 2, 3]
    assert arrays["numbers"].shape == (2, 2)
    assert arrays["one"].shape == ()


def test_apples_refusal_names_the_model(macos):
    with pytest.raises(PredictionError, match=r"food\.mlmodel: Apple's framework refuses to predict: wrong size"):
        CoreMLEngine(StandIn(RuntimeError("wrong size")), name="food.mlmodel").predict({})


def test_a_classifier_without_probabilities_cannot_be_measured(macos):
    engine = CoreMLEngine(StandIn({"label": "bread"}), name="food.mlmodel")
    with pytest.raises(PredictionError, match=r"food\.mlmodel is a classifier without probabilities"):
        engine.outputs({})
