import threading

import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers

from pytest_quantguard import runtime
from pytest_quantguard.errors import PredictionError, QuantguardError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime import custom_layers

X = numbers(2, 3)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(custom_layers, "_FUNCTIONS", {})


def custom_message(class_name, **parameters):
    import_coremltools()
    from coremltools.proto import NeuralNetwork_pb2

    message = NeuralNetwork_pb2.CustomLayerParams(className=class_name)
    for name, value in parameters.items():
        kind = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


def custom_engine(message, *, exact=True, inputs=("x",), outputs=("z",), last=("z",)):
    """x doubled, then the custom layer, then the negative of its first output."""
    builder = make_builder({"x": X.shape if exact else (2, 3, 1)}, exact=exact)
    builder.add_activation("double", "LINEAR", "x", "d", [2.0, 0.0])
    builder.add_custom("own", ["d" if name == "x" else name for name in inputs], list(outputs), message)
    builder.add_activation("negate", "LINEAR", last[0], "y", [-1.0, 0.0])
    return make_engine(builder)


def test_a_custom_layer_runs_its_registered_function_between_the_other_layers():
    runtime.register_custom_layer("Cube", lambda inputs, parameters, weights: inputs[0] ** 3)
    close(custom_engine(custom_message("Cube")).predict({"x": X})["y"], -((2 * X) ** 3))


def test_the_function_may_change_the_shape_and_give_several_outputs():
    def halves(inputs, parameters, weights):
        return np.split(inputs[0].ravel(), 2)

    runtime.register_custom_layer("Halves", halves)
    engine = custom_engine(custom_message("Halves"), outputs=("a", "b"), last=("b",))
    close(engine.predict({"x": X})["y"], -2 * X.ravel()[3:])


def test_the_function_gets_parameters_and_weights_as_they_are_stored():
    seen = {}

    def look(inputs, parameters, weights):
        seen.update(parameters=dict(parameters), weights=weights)
        return inputs[0]

    message = custom_message("Look", rate=0.5, size=3, mode="fast", flag=True)
    message.weights.add().floatValue.extend([1.0, 2.0])
    message.weights.add().float16Value = np.float16([0.5, -4]).tobytes()
    message.weights.add().rawValue = b"\x01\xff"
    quantized = message.weights.add()
    quantized.rawValue, quantized.quantization.numberOfBits = b"\x00\x02", 8
    quantized.quantization.linearQuantization.scale.append(3.0)
    runtime.register_custom_layer("Look", look)
    custom_engine(message).predict({"x": X})
    assert seen["parameters"] == {"rate": 0.5, "size": 3, "mode": "fast", "flag": True}
    assert [(str(array.dtype), array.tolist()) for array in seen["weights"]] == [
        ("float32", [1, 2]),
        ("float32", [0.5, -4]),
        ("uint8", [1, 255]),
        ("float32", [0, 6]),
    ]


def test_in_networks_of_rank_five_the_function_sees_rank_five():
    shapes = []

    def look(inputs, parameters, weights):
        shapes.append(inputs[0].shape)
        return inputs[0]

    runtime.register_custom_layer("Look", look)
    engine = custom_engine(custom_message("Look"), exact=False)
    assert engine.predict({"x": X[..., None]})["y"].shape == (1, 1, 2, 3, 1)
    assert shapes == [(1, 1, 2, 3, 1)]


def test_the_function_may_write_into_its_inputs():
    def overwrite(inputs, parameters, weights):
        inputs[0][...] = 0
        return inputs[0]

    runtime.register_custom_layer("Overwrite", overwrite)
    builder = make_builder({"x": X.shape}, exact=True)
    builder.add_activation("double", "LINEAR", "x", "d", [2.0, 0.0])
    builder.add_custom("own", ["d"], ["z"], custom_message("Overwrite"))
    builder.add_add_broadcastable("sum", ["d", "z"], "y")
    close(make_engine(builder).predict({"x": X})["y"], 2 * X)


def test_a_custom_layer_in_a_loop_runs_each_time():
    runtime.register_custom_layer("Next", lambda inputs, parameters, weights: inputs[0] + 1)
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = make_builder({"x": X.shape}, exact=True)
    builder.add_copy("start", "x", "y")
    body = NeuralNetworkBuilder(nn_spec=builder.add_loop("loop", max_iterations=4).loop.bodyNetwork)
    body.add_custom("own", ["y"], ["next"], custom_message("Next"))
    body.add_copy("again", "next", "y")
    close(make_engine(builder).predict({"x": X})["y"], X + 4)


def test_predictions_in_several_threads_do_not_meet():
    runtime.register_custom_layer("Cube", lambda inputs, parameters, weights: inputs[0] ** 3)
    engine = custom_engine(custom_message("Cube"))
    answers = {}

    def predict(index):
        answers[index] = [engine.predict({"x": X + index})["y"] for _ in range(20)]

    threads = [threading.Thread(target=predict, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, arrays in answers.items():
        for array in arrays:
            close(array, -((2 * (X + index)) ** 3), tolerance=1e-4)


def test_a_class_without_function_is_refused_by_name():
    message = (
        r"^net\.mlmodel: layer 'own': a custom layer of class 'Swish', for which "
        r"pytest_quantguard\.runtime\.register_custom_layer was not called, is not supported by the portable "
        r"engine\.$"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        custom_engine(custom_message("Swish"))


def test_another_number_of_outputs_is_an_error_that_names_the_layer():
    runtime.register_custom_layer("Pair", lambda inputs, parameters, weights: [inputs[0], inputs[0]])
    with pytest.raises(PredictionError, match=r"layer 'own' has 1 outputs, but 2 were computed"):
        custom_engine(custom_message("Pair")).predict({"x": X})


def test_an_error_of_the_function_reaches_the_caller():
    def fail(inputs, parameters, weights):
        raise LookupError("my own")

    runtime.register_custom_layer("Fail", fail)
    with pytest.raises(LookupError, match="my own"):
        custom_engine(custom_message("Fail")).predict({"x": X})


@pytest.mark.parametrize(("name", "function"), [("", abs), (3, abs), ("Swish", None)])
def test_only_a_class_name_and_a_function_can_be_registered(name, function):
    with pytest.raises(QuantguardError, match="takes a class name and a function"):
        runtime.register_custom_layer(name, function)
