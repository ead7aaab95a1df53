"""Each MIL operation against coremltools' own definition of it (`value_inference`)."""

import numpy as np
import pytest
from ml_program_makers import expected_by_coremltools, run_program

from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(7)
IMAGE = RNG.normal(size=(2, 3, 5, 6)).astype(np.float32)
MATRIX = RNG.normal(size=(4, 6)).astype(np.float32)
POSITIVE = RNG.uniform(0.1, 3, (3, 5)).astype(np.float32)
UNIT = RNG.uniform(-0.9, 0.9, (3, 5)).astype(np.float32)
HALVES = np.arange(-3, 3.5, 0.5, dtype=np.float32)
WHOLE = RNG.integers(-9, 9, (4, 6)).astype(np.int32)
DIVISOR = np.where(WHOLE == 0, 4, WHOLE)[::-1].copy()
TRUTH = WHOLE > 0


def f32(*values):
    return np.array(values, np.float32)


UNARY = {
    "abs": WHOLE,
    "acos": UNIT,
    "asin": UNIT,
    "atan": MATRIX,
    "atanh": UNIT,
    "ceil": HALVES,
    "cos": MATRIX,
    "cosh": MATRIX,
    "erf": MATRIX,
    "exp": MATRIX,
    "exp2": MATRIX,
    "floor": HALVES,
    "inverse": POSITIVE,
    "log": POSITIVE,
    "logical_not": TRUTH,
    "relu": MATRIX,
    "relu6": 4 * MATRIX,
    "round": HALVES,
    "rsqrt": POSITIVE,
    "shape": MATRIX,
    "sigmoid": MATRIX,
    "sign": MATRIX,
    "sin": MATRIX,
    "sinh": MATRIX,
    "softplus": MATRIX,
    "softsign": MATRIX,
    "sqrt": POSITIVE,
    "square": WHOLE,
    "tan": UNIT,
    "tanh": MATRIX,
    "identity": MATRIX,
    "non_zero": WHOLE,
}

BINARY = {
    "add": WHOLE,
    "equal": WHOLE,
    "floor_div": WHOLE,
    "greater": MATRIX,
    "greater_equal": WHOLE,
    "less": MATRIX,
    "less_equal": WHOLE,
    "logical_and": TRUTH,
    "logical_or": TRUTH,
    "logical_xor": TRUTH,
    "maximum": MATRIX,
    "minimum": WHOLE,
    "mod": WHOLE,
    "mul": MATRIX,
    "not_equal": WHOLE,
    "real_div": MATRIX,
    "sub": MATRIX,
}

REDUCTIONS = [
    "reduce_l1_norm",
    "reduce_l2_norm",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "reduce_sum_square",
]

# name: (function of the inputs, inputs)
CASES = {
    "cast to int32": (lambda x: mb.cast(x=x, dtype="int32"), {"x": HALVES}),
    "cast to bool": (lambda x: mb.cast(x=x, dtype="bool"), {"x": HALVES}),
    "cast bool to fp32": (lambda x: mb.cast(x=x, dtype="fp32"), {"x": TRUTH}),
    "cast to uint8": (lambda x: mb.cast(x=x, dtype="uint8"), {"x": np.int32([0, 7, 255, 256, -1])}),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), {"x": MATRIX}),
    "threshold": (lambda x: mb.threshold(x=x, alpha=0.1), {"x": MATRIX}),
    "pow": (lambda x, y: mb.pow(x=x, y=y), {"x": POSITIVE, "y": UNIT}),
    "mod of fractions": (lambda x, y: mb.mod(x=x, y=y), {"x": HALVES, "y": f32(*[1.25, -1.25] * 6, 0.75)}),
    "select": (lambda c, a, b: mb.select(cond=c, a=a, b=b), {"c": TRUTH, "a": MATRIX, "b": -MATRIX}),
    "select truth values": (lambda c, a: mb.select(cond=c, a=a, b=c), {"c": TRUTH, "a": ~TRUTH[::-1]}),
    "clamped_relu": (lambda x: mb.clamped_relu(x=x, alpha=0.2, beta=0.7), {"x": MATRIX}),
    "elu": (lambda x: mb.elu(x=x, alpha=1.3), {"x": MATRIX}),
    "leaky_relu": (lambda x: mb.leaky_relu(x=x, alpha=0.1), {"x": MATRIX}),
    "linear_activation": (lambda x: mb.linear_activation(x=x, alpha=2.0, beta=-1.0), {"x": MATRIX}),
    "prelu": (lambda x: mb.prelu(x=x, alpha=f32(0.1, 0.2, 0.3)), {"x": IMAGE}),
    "scaled_tanh": (lambda x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.5), {"x": MATRIX}),
    "sigmoid_hard": (lambda x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4), {"x": 3 * MATRIX}),
    "softmax": (lambda x: mb.softmax(x=x, axis=1), {"x": IMAGE}),
    "softmax of the last axis": (lambda x: mb.softmax(x=x), {"x": IMAGE}),
    "softplus_parametric": (
        lambda x: mb.softplus_parametric(x=x, alpha=f32(1, 2, 3), beta=f32(0.5, 1, 2)),
        {"x": IMAGE},
    ),
    "gelu": (lambda x: mb.gelu(x=x), {"x": 3 * MATRIX}),
    "gelu, tanh": (lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), {"x": 3 * MATRIX}),
    "gelu, sigmoid": (lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), {"x": 3 * MATRIX}),
    "linear": (lambda x: mb.linear(x=x, weight=MATRIX, bias=f32(1, 2, 3, 4)), {"x": IMAGE[0]}),
    "linear of a matrix": (lambda x: mb.linear(x=x, weight=MATRIX, bias=f32(1, 2, 3, 4)), {"x": MATRIX}),
    "linear of whole numbers": (lambda x: mb.linear(x=x, weight=WHOLE), {"x": WHOLE}),
    "matmul": (lambda x, y: mb.matmul(x=x, y=y, transpose_y=True), {"x": IMAGE, "y": IMAGE[:, :1]}),
    "matmul, transposed": (lambda x: mb.matmul(x=x, y=MATRIX, transpose_x=True), {"x": MATRIX}),
    "einsum": (
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        {"x": IMAGE, "y": np.repeat(IMAGE[:, :1], 6, 1)[..., :4].copy()},
    ),
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[3], gamma=f32(2, 1, 0.5, 3, 4, 5), beta=f32(*range(6))),
        {"x": IMAGE},
    ),
    "layer_norm over channels": (
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=f32(1, 2, 3), beta=f32(3, 2, 1), epsilon=0.1),
        {"x": IMAGE},
    ),
    "layer_norm without gamma": (lambda x: mb.layer_norm(x=x, axes=[-2, -1]), {"x": IMAGE}),
    "l2_norm": (lambda x: mb.l2_norm(x=x, epsilon=0.01), {"x": IMAGE}),
    "reduce_argmax": (lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=True), {"x": IMAGE}),
    "reduce_argmin": (lambda x: mb.reduce_argmin(x=x), {"x": IMAGE}),
    "reduce whole numbers": (lambda x: mb.reduce_sum(x=x, axes=[0]), {"x": WHOLE}),
    "reshape": (lambda x: mb.reshape(x=x, shape=(3, -1)), {"x": IMAGE}),
    "reshape with a kept dimension": (lambda x: mb.reshape(x=x, shape=(0, 0, -1)), {"x": IMAGE[0]}),
    "transpose": (lambda x: mb.transpose(x=x, perm=[0, 2, -1, 1]), {"x": IMAGE}),
    "expand_dims": (lambda x: mb.expand_dims(x=x, axes=[0, -1]), {"x": MATRIX}),
    "squeeze": (lambda x: mb.squeeze(x=x, axes=[0]), {"x": IMAGE[:1]}),
    "squeeze all": (lambda x: mb.squeeze(x=x), {"x": IMAGE[:1, :1]}),
    "flatten2d": (lambda x: mb.flatten2d(x=x, axis=-1), {"x": IMAGE}),
    "reverse": (lambda x: mb.reverse(x=x, axes=[1, -1]), {"x": IMAGE}),
    "reverse all": (lambda x: mb.reverse(x=x), {"x": IMAGE}),
    "concat": (lambda x, y: mb.concat(values=(x, y), axis=1), {"x": IMAGE, "y": IMAGE[:, :2]}),
    "stack": (lambda x, y: mb.stack(values=(x, y), axis=-1), {"x": MATRIX, "y": -MATRIX}),
    "split": (lambda x: mb.split(x=x, num_splits=3, axis=-1), {"x": IMAGE}),
    "split into given sizes": (lambda x: mb.split(x=x, split_sizes=[1, 2], axis=1), {"x": IMAGE}),
    "slice_by_index": (
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, 0, -2], end=[2, 3, 5, 0], stride=[1, 1, 2, -1]),
        {"x": IMAGE},
    ),
    "slice_by_index, masked": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, 9, -1, 3],
            end=[0, 2, 0, 0],
            stride=[1, 1, -2, -1],
            begin_mask=[False, True, True, False],
            end_mask=[True, False, True, True],
        ),
        {"x": IMAGE},
    ),
    "slice_by_index, squeezed": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[-1, 0, 2, 0],
            end=[0, 0, 0, 0],
            end_mask=[False, True, False, True],
            squeeze_mask=[True, False, True, False],
        ),
        {"x": IMAGE},
    ),
    "slice_by_size": (lambda x: mb.slice_by_size(x=x, begin=[1, -2, 0, 2], size=[1, 2, -1, 3]), {"x": IMAGE}),
    "pad": (lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], constant_val=7.0), {"x": IMAGE}),
    "pad, reflect": (lambda x: mb.pad(x=x, pad=[1, 2, 2, 1], mode="reflect"), {"x": IMAGE}),
    "pad, replicate": (lambda x: mb.pad(x=x, pad=[1, 2, 2, 1], mode="replicate"), {"x": IMAGE}),
    "tile": (lambda x: mb.tile(x=x, reps=[1, 2, 1, 3]), {"x": IMAGE}),
    "band_part": (lambda x: mb.band_part(x=x, lower=1, upper=2), {"x": IMAGE}),
    "band_part, lower triangle": (lambda x: mb.band_part(x=x, upper=0), {"x": WHOLE}),
    "cumsum": (lambda x: mb.cumsum(x=x, axis=1, reverse=True), {"x": IMAGE}),
    "fill_like": (lambda x: mb.fill_like(ref_tensor=x, value=3.5), {"x": IMAGE}),
    "topk": (lambda x: mb.topk(x=x, k=2, axis=1), {"x": IMAGE}),
    "topk, smallest": (lambda x: mb.topk(x=x, k=3, ascending=True), {"x": IMAGE}),
    "argsort": (lambda x: mb.argsort(x=x, axis=2), {"x": IMAGE}),
    "gather": (lambda x: mb.gather(x=x, indices=np.int32([[2, 0], [1, 1]]), axis=1), {"x": IMAGE}),
    "gather in batches": (
        lambda x: mb.gather(x=x, indices=np.int32([[2, 0], [1, 1]]), axis=1, batch_dims=1),
        {"x": IMAGE},
    ),
    "gather in batches, later axis": (
        lambda x: mb.gather(x=x, indices=np.int32([[2, 0, 1], [1, 1, 3]]), axis=3, batch_dims=1),
        {"x": IMAGE},
    ),
    "gather_along_axis": (
        lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1),
        {"x": MATRIX, "i": (WHOLE % 6).astype(np.int32)},
    ),
    "scatter_along_axis": (
        lambda x, y: mb.scatter_along_axis(
            data=x, indices=np.int32([[1], [3], [0], [2]]), updates=y, axis=1, mode="update"
        ),
        {"x": MATRIX, "y": MATRIX[:, :1].copy()},
    ),
    "scaled_dot_product_attention": (
        lambda x, y: mb.scaled_dot_product_attention(query=x, key=y, value=y),
        {"x": IMAGE, "y": IMAGE[:, ::-1].copy()},
    ),
    "scaled_dot_product_attention, masked": (
        lambda x, m: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=m),
        {"x": IMAGE, "m": np.tri(5, dtype=bool)},
    ),
    "quantize": (
        lambda x: mb.quantize(
            input=x, scale=f32(0.1, 0.2, 0.01), zero_point=np.int8([0, 5, -5]), axis=1, output_dtype="int8"
        ),
        {"x": IMAGE},
    ),
    "constants only": (
        lambda x: mb.add(x=x, y=mb.mul(x=mb.square(x=f32(1, 2, 3)), y=f32(2.0))),
        {"x": f32(1, 1, 1)},
    ),
}
for name, value in UNARY.items():
    CASES[name] = (lambda x, name=name: getattr(mb, name)(x=x), {"x": value})
for name, value in BINARY.items():
    right = DIVISOR if value is WHOLE else (~value if value is TRUTH else value[::-1].copy())
    CASES[name] = (lambda x, y, name=name: getattr(mb, name)(x=x, y=y), {"x": value, "y": right})
for name in REDUCTIONS:
    CASES[name] = (
        lambda x, name=name: getattr(mb, name)(x=x, axes=[-1, 0], keep_dims=True),
        {"x": np.abs(IMAGE) + 0.1},
    )
    CASES[f"{name} of all"] = (lambda x, name=name: getattr(mb, name)(x=x), {"x": POSITIVE})


@pytest.mark.parametrize("name", CASES)
def test_operations_compute_what_coremltools_defines(name, tmp_path):
    build, inputs = CASES[name]
    expected = expected_by_coremltools(build, {key: value.copy() for key, value in inputs.items()})
    found = run_program(build, inputs, tmp_path)
    found = found if isinstance(found, list) else [found]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        # Features have no scalars.
        assert one.shape == (other.shape or (1,))
        assert one.dtype.kind == (other.dtype.kind if other.dtype.kind != "u" else "i")
        np.testing.assert_allclose(one, other.reshape(one.shape), rtol=2e-6, atol=2e-6)
