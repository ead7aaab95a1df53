"""Recurrent operations of ML programs against loops over steps in numpy."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.translator import translate

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(4)
STEPS, BATCH, FEATURES, HIDDEN = 5, 2, 3, 4

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
}


@pytest.fixture(autouse=True)
def the_same_numbers_in_every_test():
    RNG.bit_generator.state = BEGIN


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


X = normal(STEPS, BATCH, FEATURES)
BEGIN = RNG.bit_generator.state


def run(build, states, tmp_path, target="iOS17"):
    inputs = {"x": X, **states}
    return run_program(
        lambda **given: build(**given), {name: value.copy() for name, value in inputs.items()}, tmp_path, target
    )


def check(found, expected):
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def lstm_by_numpy(x, h, c, weights, names=("sigmoid", "tanh", "tanh"), clip=np.inf):
    """All hidden states, the last one and the last cell; gates in MIL's order: input, forget, output, cell."""
    of_gate, of_input, of_cell = (ACTIVATIONS[name] for name in names)
    look = np.split(weights.get("peephole", np.zeros(3 * HIDDEN, np.float32)), 3)
    steps = []
    for row in x:
        total = row @ weights["weight_ih"].T + h @ weights["weight_hh"].T + weights.get("bias", 0)
        i, f, o, z = np.split(total, 4, axis=1)
        i, f = of_gate(i + look[0] * c), of_gate(f + look[1] * c)
        c = np.clip(f * c + i * of_input(z), -clip, clip)
        h = of_gate(o + look[2] * c) * of_cell(c)
        steps.append(h)
    return np.array(steps), h, c


def lstm_weights(*optional):
    weights = {"weight_ih": normal(4 * HIDDEN, FEATURES), "weight_hh": normal(4 * HIDDEN, HIDDEN)}
    sizes = {"bias": 4 * HIDDEN, "peephole": 3 * HIDDEN}
    return weights | {name: normal(sizes[name]) for name in optional}


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_an_lstm_computes_its_gates_with_bias_and_peepholes(direction, clip, tmp_path):
    weights = lstm_weights("bias", "peephole")
    states = {"initial_h": normal(BATCH, HIDDEN), "initial_c": normal(BATCH, HIDDEN)}
    options = {} if clip is None else {"clip": np.float32(clip)}

    def build(**inputs):
        return mb.lstm(**inputs, **weights, **options, direction=direction, output_sequence=True)

    # In reverse the answers are in the order of processing.
    x = X if direction == "forward" else X[::-1]
    expected = lstm_by_numpy(x, *states.values(), weights, clip=clip or np.inf)
    check(run(build, states, tmp_path), expected)


@pytest.mark.parametrize("names", [("hard_sigmoid", "linear", "relu"), ("sigmoid", "scaled_tanh", "linear")])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_an_lstm_takes_all_activations(names, clip, tmp_path):
    weights = lstm_weights()
    states = {"initial_h": normal(BATCH, HIDDEN), "initial_c": normal(BATCH, HIDDEN)}
    options = {} if clip is None else {"clip": np.float32(clip)}
    gates, cell, output = names

    def build(**inputs):
        return mb.lstm(
            **inputs, **weights, **options, recurrent_activation=gates, cell_activation=cell, activation=output
        )

    _, h, c = lstm_by_numpy(X, *states.values(), weights, names, clip or np.inf)
    check(run(build, states, tmp_path), [h[None], h, c])


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_a_bidirectional_lstm_joins_both_directions_in_the_order_of_time(sequence, clip, tmp_path):
    forward, backward = lstm_weights("bias", "peephole"), lstm_weights("bias", "peephole")
    states = {"initial_h": normal(BATCH, 2 * HIDDEN), "initial_c": normal(BATCH, 2 * HIDDEN)}
    options = {} if clip is None else {"clip": np.float32(clip)}

    def build(**inputs):
        back = {f"{name}_back": value for name, value in backward.items()}
        return mb.lstm(**inputs, **forward, **back, **options, direction="bidirectional", output_sequence=sequence)

    starts = [np.split(state, 2, axis=1) for state in states.values()]
    found = [
        lstm_by_numpy(x, h, c, weights, clip=clip or np.inf)
        for x, h, c, weights in zip((X, X[::-1]), *starts, (forward, backward), strict=True)
    ]
    h, c = (np.concatenate([part[index] for part in found], axis=1) for index in (1, 2))
    steps = np.concatenate([found[0][0], found[1][0][::-1]], axis=2) if sequence else h[None]
    check(run(build, states, tmp_path), [steps, h, c])


def gru_by_numpy(x, h, weights, names=("sigmoid", "tanh"), *, after=False):
    """All hidden states and the last one; gates in MIL's order: reset, output, update."""
    gate, output = (ACTIVATIONS[name] for name in names)
    into = np.split(weights.get("input_bias", np.zeros(3 * HIDDEN, np.float32)), 3)
    bias = np.split(weights.get("bias", np.zeros(3 * HIDDEN, np.float32)), 3)
    (w_r, w_o, w_z), (r_r, r_o, r_z) = (np.split(weights[name], 3) for name in ("weight_ih", "weight_hh"))
    steps = []
    for row in x:
        r = gate(row @ w_r.T + h @ r_r.T + into[0] + bias[0])
        z = gate(row @ w_z.T + h @ r_z.T + into[2] + bias[2])
        recurrent = r * (h @ r_o.T + bias[1]) if after else (r * h) @ r_o.T + bias[1]
        h = (1 - z) * output(row @ w_o.T + into[1] + recurrent) + z * h
        steps.append(h)
    return np.array(steps), h


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("names", [("sigmoid", "tanh"), ("hard_sigmoid", "linear")])
def test_a_gru_resets_the_state_before_the_output_gate(direction, names, tmp_path):
    weights = {
        "weight_ih": normal(3 * HIDDEN, FEATURES),
        "weight_hh": normal(3 * HIDDEN, HIDDEN),
        "bias": normal(3 * HIDDEN),
    }
    states = {"initial_h": normal(BATCH, HIDDEN)}

    def build(**inputs):
        gate, output = names
        return mb.gru(
            **inputs,
            **weights,
            direction=direction,
            output_sequence=True,
            recurrent_activation=gate,
            activation=output,
        )

    x = X if direction == "forward" else X[::-1]
    check(run(build, states, tmp_path), gru_by_numpy(x, *states.values(), weights, names))


@pytest.mark.parametrize("after", [True, False])
def test_a_gru_of_ios_18_may_reset_behind_the_recurrent_weights(after, tmp_path):
    weights = {"weight_ih": normal(3 * HIDDEN, FEATURES), "weight_hh": normal(3 * HIDDEN, HIDDEN)}
    weights |= {"bias": normal(3 * HIDDEN), "input_bias": normal(3 * HIDDEN)}
    states = {"initial_h": normal(BATCH, HIDDEN)}

    def build(**inputs):
        return mb.gru(**inputs, **weights, reset_after=after)

    _, h = gru_by_numpy(X, *states.values(), weights, after=after)
    check(run(build, states, tmp_path, "iOS18"), [h[None], h])


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("name", ["tanh", "relu", "linear", "scaled_tanh"])
def test_a_plain_recurrent_layer_adds_input_and_state(direction, name, tmp_path):
    weights = {"weight_ih": normal(HIDDEN, FEATURES), "weight_hh": normal(HIDDEN, HIDDEN), "bias": normal(HIDDEN)}
    states = {"initial_h": normal(BATCH, HIDDEN)}

    def build(**inputs):
        return mb.rnn(**inputs, **weights, direction=direction, activation=name, output_sequence=True)

    h, steps = states["initial_h"], []
    for row in X if direction == "forward" else X[::-1]:
        h = ACTIVATIONS[name](row @ weights["weight_ih"].T + h @ weights["weight_hh"].T + weights["bias"])
        steps.append(h)
    check(run(build, states, tmp_path), [np.array(steps), h])


def test_a_recurrent_layer_takes_sequences_of_any_length(tmp_path):
    weights = lstm_weights("bias")
    inputs = {
        "x": ((None, None, FEATURES), np.float32),
        "initial_h": ((None, HIDDEN), np.float32),
        "initial_c": ((None, HIDDEN), np.float32),
    }
    spec = make_spec(lambda **given: mb.lstm(**given, **weights, output_sequence=True), inputs, tmp_path, "iOS17")
    for steps, batch in ((1, 1), (7, 3)):
        given = {
            "x": normal(steps, batch, FEATURES),
            "initial_h": normal(batch, HIDDEN),
            "initial_c": normal(batch, HIDDEN),
        }
        check(run_spec(spec, given, tmp_path), lstm_by_numpy(*given.values(), weights))


@pytest.mark.parametrize("rows", [BATCH + 3, None])
def test_a_state_of_more_rows_than_sequences_is_cut_as_for_packed_sequences_of_pytorch(rows, tmp_path):
    weights = lstm_weights("bias")
    states = {name: normal(BATCH + 3, HIDDEN) for name in ("initial_h", "initial_c")}
    inputs = {"x": (X.shape, np.float32), **dict.fromkeys(states, ((rows, HIDDEN), np.float32))}
    spec = make_spec(lambda **given: mb.lstm(**given, **weights, output_sequence=True), inputs, tmp_path, "iOS17")
    found = run_spec(spec, {"x": X, **states}, tmp_path)
    check(found, lstm_by_numpy(X, *(state[:BATCH] for state in states.values()), weights))


def _gru_spec(tmp_path, **changed):
    weights = {"weight_ih": normal(3 * HIDDEN, FEATURES), "weight_hh": normal(3 * HIDDEN, HIDDEN)} | changed
    inputs = {"x": X, "initial_h": normal(BATCH, HIDDEN)}
    return make_spec(lambda **given: mb.gru(**given, **weights), inputs, tmp_path, "iOS17")


def test_an_unknown_activation_is_refused_by_name(tmp_path):
    spec = _gru_spec(tmp_path, activation="swish")
    with pytest.raises(
        UnsupportedModelError, match=r"'gru' .*: activation 'swish' is not supported by the portable engine"
    ):
        translate(spec, tmp_path)


def test_a_bias_of_another_size_is_called_damaged(tmp_path):
    spec = _gru_spec(tmp_path, bias=normal(7))
    with pytest.raises(ModelFileError, match=r"'gru' .* has parameters that do not fit together"):
        translate(spec, tmp_path)
