import numpy as np
import pytest
from network_runner import make_builder

from pytest_quantguard import load_model
from pytest_quantguard.errors import PredictionError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.sessions import make_session


def adding_program(axes):
    """A program of a few bytes that adds its 1,024 numbers to themselves along several axes, and sums up."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1024,))], opset_version=ct.target.iOS15)
        def program(x):
            total = x
            for axis in range(1, axes):
                total = mb.add(x=total, y=mb.reshape(x=x, shape=(1024, *[1] * axis)))
            return mb.reduce_sum(x=total, axes=list(range(axes)), keep_dims=False, name="y")

        return ct.convert(program, convert_to="mlprogram", skip_model_load=True)


def test_a_prediction_within_the_limit_runs():
    answer = load_model(adding_program(2), engine="portable").predict({"x": np.ones(1024)})
    assert answer["y"].item() == 2 * 1024**2


@pytest.mark.parametrize("axes", [3, 5])
def test_tensors_beyond_the_limit_are_an_error_and_later_predictions_run(axes):
    model = load_model(adding_program(axes), engine="portable")
    message = "model: the run failed: its tensors need more than the 4 GiB of memory that predictions may take"
    for _ in range(2):
        with pytest.raises(PredictionError, match=message):
            model.predict({"x": np.ones(1024)})
    test_a_prediction_within_the_limit_runs()


def test_a_huge_optional_input_is_not_filled_in():
    builder = make_builder({"x": (3,)}, exact=True)
    with quiet():
        builder.add_activation("relu", "RELU", "x", "y")
    more = builder.spec.description.input.add(name="more")
    more.CopyFrom(builder.spec.description.input[0])
    more.name, more.type.isOptional = "more", True
    more.type.multiArrayType.shape[:] = [1 << 40]
    with quiet():
        mlmodel = import_coremltools().models.MLModel(builder.spec, skip_model_load=True)
    model = load_model(mlmodel, engine="portable")
    with pytest.raises(PredictionError, match="the optional input 'more' is too large to be filled in; give it"):
        model.predict({"x": np.ones(3)})


def test_memory_of_earlier_models_is_given_back():
    """Memory is kept in pieces of the sizes that a model asked for; of five models they would pass the limit."""
    ones = np.ones((1, 1), np.float32)
    for megabytes in (1000, 1010, 1020, 1030, 1040):
        graph = GraphBuilder()
        rows = graph.node("Expand", [graph.input("x", "float32", (1, 1)), graph.constant([megabytes << 8, 1024])])
        graph.output(graph.node("ReduceMax", [rows], keepdims=0), "y", "float32")
        assert make_session(graph.build()).run(None, {"x": ones})[0] == 1
