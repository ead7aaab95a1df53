import numpy as np
import pytest
from network_runner import close, numbers, run

STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 3, 5
X = numbers(STEPS, BATCH, INPUTS)
H0, C0 = numbers(BATCH, HIDDEN, seed=1), numbers(BATCH, HIDDEN, seed=2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights(gates, seed=3):
    rng = np.random.default_rng(seed)
    return (
        [rng.uniform(-1, 1, (HIDDEN, INPUTS)).astype(np.float32) for _ in range(gates)],
        [rng.uniform(-1, 1, (HIDDEN, HIDDEN)).astype(np.float32) for _ in range(gates)],
        [rng.uniform(-1, 1, HIDDEN).astype(np.float32) for _ in range(gates)],
    )


def lstm(x, h, c, gates, *, peep=None, forget_bias=0, coupled=False, clip=50.0):
    """Reference: the specification's equations, gates in the order input, forget, output, block input."""
    peep = peep or [np.zeros(HIDDEN)] * 3
    every = []
    for step in x:
        a_i, a_f, a_o, a_z = [step @ w.T + h @ r.T + b for w, r, b in zip(*gates, strict=True)]
        i = sigmoid(a_i + peep[0] * c)
        f = 1 - i if coupled else sigmoid(a_f + peep[1] * c + forget_bias)
        c = np.clip(f * c + i * np.tanh(a_z), -clip, clip)
        h = np.tanh(c) * sigmoid(a_o + peep[2] * c)
        every.append(h)
    return np.stack(every), h, c


def rank5(*arrays):
    """[..., batch, vector] with a leading sequence of at least one, as rank 5."""
    return [array.reshape(-1, *array.shape[-2:], 1, 1) for array in arrays]


def inputs(*states):
    names = ("x", "h0", "c0", "h1", "c1")
    return dict(zip(names, rank5(X, *states), strict=False))


def add_lstm(builder, gates, names, outputs, **options):
    w, r, b = gates
    builder.add_unilstm("lstm", r, w, b, HIDDEN, INPUTS, names, outputs, **options)


@pytest.mark.parametrize(
    "options, reference",
    [
        ({}, {}),
        ({"forget_bias": True}, {"forget_bias": 1}),
        ({"peep": list(numbers(3, HIDDEN, seed=7))}, {"peep": list(numbers(3, HIDDEN, seed=7))}),
        ({"coupled_input_forget_gate": True}, {"coupled": True}),
    ],
)
def test_lstm_with_states(options, reference):
    gates = weights(4)
    names = ["x", "h0", "c0"]
    y, h, c = run(
        lambda b: add_lstm(b, gates, names, ["y", "h", "c"], output_all=True, **options),
        inputs(H0, C0),
        ("y", "h", "c"),
        exact=True,
    )
    for answer, expected in zip((y, h, c), rank5(*lstm(X, H0, C0, gates, **reference)), strict=True):
        close(answer, expected)


@pytest.mark.parametrize("every", [True, False])
def test_a_reversed_lstm_answers_in_the_order_of_processing(every):
    gates = weights(4)
    zeros = np.zeros((BATCH, HIDDEN))
    expected = lstm(X[::-1], zeros, zeros, gates)[0]
    y = run(lambda b: add_lstm(b, gates, ["x"], ["y"], output_all=every, reverse_input=True), inputs(), exact=True)
    close(y, rank5(expected if every else expected[-1])[0])


@pytest.mark.parametrize("every", [True, False])
def test_bidirectional_lstm_joins_both_answers(every):
    forward, backward = weights(4), weights(4, seed=9)
    states = [numbers(BATCH, HIDDEN, seed=seed) for seed in range(4)]
    names, outputs = ["x", "h0", "c0", "h1", "c1"], ["y", "ho", "co", "hb", "cb"]

    def layers(builder):
        builder.add_bidirlstm(
            "lstm",
            forward[1],
            forward[0],
            forward[2],
            backward[1],
            backward[0],
            backward[2],
            HIDDEN,
            INPUTS,
            names,
            outputs,
            output_all=every,
        )

    answers = run(layers, inputs(*states), outputs, exact=True)
    first = lstm(X, *states[:2], forward)
    second = lstm(X[::-1], *states[2:], backward)
    y = np.concatenate([first[0], second[0][::-1]] if every else [first[1], second[1]], axis=-1)
    for answer, expected in zip(answers, rank5(y, *first[1:], *second[1:]), strict=True):
        close(answer, expected)


def test_gru():
    (w_z, w_r, w_o), (r_z, r_r, r_o), (b_z, b_r, b_o) = weights(3)
    h, every = H0, []
    for step in X:
        z = sigmoid(step @ w_z.T + h @ r_z.T + b_z)
        r = sigmoid(step @ w_r.T + h @ r_r.T + b_r)
        o = np.tanh(step @ w_o.T + (h * r) @ r_o.T + b_o)
        h = (1 - z) * o + z * h
        every.append(h)

    def layers(builder):
        builder.add_gru(
            "gru",
            [r_z, r_r, r_o],
            [w_z, w_r, w_o],
            [b_z, b_r, b_o],
            HIDDEN,
            INPUTS,
            ["x", "h0"],
            ["y", "h"],
            inner_activation="SIGMOID",
            output_all=True,
        )

    y, last = run(layers, inputs(H0), ("y", "h"), exact=True)
    close(y, rank5(np.stack(every))[0])
    close(last, rank5(h)[0])


@pytest.mark.parametrize(
    "kind, function",
    [
        ("SIGMOID_HARD", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("SCALED_TANH", np.tanh),
        ("LINEAR", lambda x: x),
        ("RELU", lambda x: np.maximum(x, 0)),
    ],
)
def test_simple_recurrent_layer_with_the_default_parameters_of_its_activation(kind, function):
    (w,), (r,), (b,) = weights(1)
    h = H0
    for step in X:
        h = function(step @ w.T + h @ r.T + b)
    y = run(
        lambda n: n.add_simple_rnn("rnn", r, w, b, HIDDEN, INPUTS, kind, ["x", "h0"], ["y", "h"]),
        inputs(H0),
        ("y", "h"),
        exact=True,
    )
    close(y[0], rank5(h)[0])


def test_stated_parameters_of_an_activation_are_taken():
    (w,), (r,), (b,) = weights(1)

    def layers(builder):
        builder.add_simple_rnn("rnn", 0 * r, w, b, HIDDEN, INPUTS, "SCALED_TANH", ["x"], ["y"])
        stated = builder.nn_spec.layers[0].simpleRecurrent.activation.scaledTanh
        stated.alpha, stated.beta = 1.7159, 2 / 3

    expected = 1.7159 * np.tanh(2 / 3 * (X[-1] @ w.T + b))
    close(run(layers, inputs(), exact=True), rank5(expected)[0])


def test_what_enters_an_activation_is_kept_within_fifty():
    (w,), (r,), (b,) = weights(1)
    y = run(
        lambda n: n.add_simple_rnn("rnn", 0 * r, w, 1000 + 0 * b, HIDDEN, INPUTS, "LINEAR", ["x"], ["y"]),
        inputs(),
        exact=True,
    )
    close(y, np.full((1, BATCH, HIDDEN, 1, 1), 50))


@pytest.mark.parametrize(
    "options, reference",
    [
        ({}, {}),
        ({"forget_bias": True}, {"forget_bias": 1}),
        ({"peep": list(numbers(3, HIDDEN, seed=7))}, {"peep": list(numbers(3, HIDDEN, seed=7))}),
        ({"coupled_input_forget_gate": True}, {"coupled": True}),
    ],
)
def test_the_cell_stays_within_a_limit_of_its_own(options, reference):
    gates = weights(4)
    free, expected = (lstm(X, H0, C0, gates, clip=clip, **reference) for clip in (50, 0.3))
    assert np.abs(free[0] - expected[0]).max() > 0.05
    answers = run(
        lambda b: add_lstm(
            b, gates, ["x", "h0", "c0"], ["y", "h", "c"], output_all=True, cell_clip_threshold=0.3, **options
        ),
        inputs(H0, C0),
        ("y", "h", "c"),
        exact=True,
    )
    for answer, array in zip(answers, rank5(*expected), strict=True):
        close(answer, array)


def test_both_directions_keep_the_cell_within_its_limit():
    forward, backward = weights(4), weights(4, seed=5)
    zeros = np.zeros((BATCH, HIDDEN))
    y = run(
        lambda b: b.add_bidirlstm(
            *("lstm", forward[1], forward[0], forward[2], backward[1], backward[0], backward[2]),
            *(HIDDEN, INPUTS, ["x"], ["y"]),
            output_all=True,
            cell_clip_threshold=0.3,
        ),
        inputs(),
        exact=True,
    )
    ahead = lstm(X, zeros, zeros, forward, clip=0.3)[0]
    back = lstm(X[::-1], zeros, zeros, backward, clip=0.3)[0][::-1]
    close(y, rank5(np.concatenate([ahead, back], axis=2))[0])


@pytest.mark.parametrize(
    ("inner", "outer", "function"),
    [
        ("RELU", "RELU", lambda x: np.maximum(x, 0)),
        ("LINEAR", "LINEAR", lambda x: x),
        ("SCALED_TANH", "SCALED_TANH", np.tanh),
    ],
)
def test_a_limited_cell_takes_every_activation(inner, outer, function):
    gates = weights(4)
    h, c, every = H0.astype(float), C0.astype(float), []
    for step in X:
        a_i, a_f, a_o, a_z = [step @ w.T + h @ r.T + b for w, r, b in zip(*gates, strict=True)]
        hard = [np.clip(0.2 * a + 0.5, 0, 1) for a in (a_i, a_f, a_o)]
        c = np.clip(hard[1] * c + hard[0] * function(a_z), -0.4, 0.4)
        h = function(c) * hard[2]
        every.append(h)
    y = run(
        lambda b: add_lstm(
            *(b, gates, ["x", "h0", "c0"], ["y", "h", "c"]),
            inner_activation="SIGMOID_HARD",
            cell_state_update_activation=inner,
            output_activation=outer,
            output_all=True,
            cell_clip_threshold=0.4,
        ),
        inputs(H0, C0),
        ("y", "h", "c"),
        exact=True,
    )[0]
    close(y, rank5(np.stack(every))[0])


def test_of_a_state_for_a_larger_batch_the_first_rows_count():
    gates = weights(4)
    larger = [np.concatenate([state, numbers(3, HIDDEN, seed=9)]) for state in (H0, C0)]
    y = run(
        lambda b: add_lstm(b, gates, ["x", "h0", "c0"], ["y", "h", "c"], output_all=True),
        inputs(*larger),
        ("y", "h", "c"),
        exact=True,
    )[0]
    close(y, rank5(lstm(X, H0, C0, gates)[0])[0])
