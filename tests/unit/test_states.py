import numpy as np
import pytest
from model_makers import SIZE, small_network
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.cli.main import main
from pytest_quantguard.errors import PredictionError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.model import Model

pytestmark = pytest.mark.skipif(
    not hasattr(import_coremltools(), "StateType"), reason="this coremltools has no states"
)


@pytest.fixture(scope="module")
def counter():
    """A program that adds its input to the state `total` twice and answers the sum before and after the second."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    with quiet():

        @mb.program(
            input_specs=[
                mb.TensorSpec((3,), dtype=types.fp16),
                mb.StateTensorSpec((3,), dtype=types.fp16),
            ],
            opset_version=ct.target.iOS18,
        )
        def program(x, total):
            once = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))
            twice = mb.coreml_update_state(state=total, value=mb.add(x=once, y=x))
            return mb.identity(x=once, name="once"), mb.identity(x=twice, name="twice")

        mlmodel = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True
        )
    return load_model(mlmodel, engine="portable")


ONES = {"x": np.ones(3, np.float32)}


def test_a_state_is_kept_from_one_prediction_to_the_next(counter):
    state = counter.make_state()
    answers = [counter.predict(ONES, state) for _ in range(2)]
    assert [answer["once"].tolist() for answer in answers] == [[1] * 3, [3] * 3]
    assert [answer["twice"].tolist() for answer in answers] == [[2] * 3, [4] * 3]
    assert state.read_state("total").tolist() == [4, 4, 4]


def test_two_states_do_not_share_anything(counter):
    first, second = counter.make_state(), counter.make_state()
    counter.predict(ONES, first)
    assert second.read_state("total").tolist() == [0, 0, 0]


def test_a_state_can_be_written_and_is_copied(counter):
    state, value = counter.make_state(), np.array([5, 6, 7], np.float32)
    state.write_state("total", value)
    value[:] = 0
    state.read_state("total")[:] = 0
    assert counter.predict(ONES, state)["once"].tolist() == [6, 7, 8]


def test_outputs_for_measuring_start_from_a_new_state(counter):
    answers = [counter.outputs(ONES).arrays["twice"].tolist() for _ in range(2)]
    assert answers == [[2] * 3, [2] * 3]


def test_a_stateful_model_wants_a_state(counter):
    with pytest.raises(PredictionError, match=r"model has states \(total\); give predict one made by make_state"):
        counter.predict(ONES)


def test_a_state_of_another_model_is_refused(counter):
    other = load_model(small_network(), engine="portable").make_state()
    with pytest.raises(PredictionError, match="model: the state is not one of this model; make it"):
        counter.predict(ONES, other)


def test_unknown_names_and_wrong_shapes_are_refused(counter):
    state = counter.make_state()
    with pytest.raises(PredictionError, match="model has no state 'sum'; its states are: total"):
        state.read_state("sum")
    with pytest.raises(PredictionError, match=r"model: state 'total' has the shape \(3,\), not \(4,\)"):
        state.write_state("total", np.zeros(4))
    assert state.read_state("total").tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", ["text", None, [[1], [2, 3]], [1j, 0, 0]])
def test_a_state_that_is_no_array_of_numbers_is_refused(counter, value):
    with pytest.raises(PredictionError, match="state 'total' takes an array of numbers"):
        counter.make_state().write_state("total", value)


def test_a_model_without_states_predicts_with_an_empty_one():
    model = load_model(small_network(), engine="portable")
    image = Image.new("RGB", (SIZE, SIZE))
    assert model.predict({"image": image}, model.make_state()) == model.predict({"image": image})


def test_the_description_names_the_states(counter):
    assert counter.description.states == ("total",)


def test_the_command_line_begins_each_prediction_anew_and_reads_the_model_once(
    counter, tmp_path, capsys, monkeypatch
):
    path = counter.save(tmp_path / "counter.mlpackage")

    def read_twice(model):
        raise AssertionError("the model is read again")

    monkeypatch.setattr(Model, "mlmodel", property(read_twice))
    for _ in range(2):
        assert main(["predict", str(path), "--input", "x=1,1,1"]) == 0
        assert "once: array 3 float32, min 1, mean 1, max 1" in capsys.readouterr().out
