import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError

X = np.abs(numbers(3, 4, 5)) + 0.1

AXES = {"CHW": (0, 1, 2), "HW": (1, 2), "C": (0,), "H": (1,), "W": (2,)}


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    "mode, expected",
    [
        ("sum", np.sum),
        ("avg", np.mean),
        ("prod", np.prod),
        ("sumsquare", lambda x, axis, keepdims: (x**2).sum(axis, keepdims=keepdims)),
        ("L1", lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims)),
        ("L2", lambda x, axis, keepdims: np.sqrt((x**2).sum(axis, keepdims=keepdims))),
        ("max", np.max),
        ("min", np.min),
    ],
)
def test_legacy_reductions_keep_the_rank(mode, expected, axis):
    y = run(lambda b: b.add_reduce("r", "x", "y", axis, mode), {"x": X})
    close(y, expected(X, axis=AXES[axis], keepdims=True), tolerance=1e-4)


def test_legacy_logsum_sums_the_logarithms():
    y = run(lambda b: b.add_reduce("r", "x", "y", "C", "logsum", epsilon=0.5), {"x": X})
    close(y, np.log(X + 0.5).sum(0, keepdims=True))


@pytest.mark.parametrize("axis", ["C", "H", "W"])
def test_legacy_argmax(axis):
    y = run(lambda b: b.add_reduce("r", "x", "y", axis, "argmax"), {"x": X})
    close(y, X.argmax(AXES[axis][0], keepdims=True))


def test_legacy_argmax_along_several_axes_is_refused():
    builder = make_builder({"x": X})
    builder.add_reduce("r", "x", "y", "HW", "argmax")
    with pytest.raises(UnsupportedModelError, match="layer 'r': the largest element's index along several axes"):
        make_engine(builder)


@pytest.mark.parametrize("options", [{"axes": [-1], "keepdims": True}, {"axes": [0, 2], "keepdims": False}])
@pytest.mark.parametrize(
    "kind, expected",
    [
        ("l1", lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims)),
        ("l2", lambda x, axis, keepdims: np.sqrt((x**2).sum(axis, keepdims=keepdims))),
        ("max", np.max),
        ("min", np.min),
        ("sum", np.sum),
        ("prod", np.prod),
        ("mean", np.mean),
        ("logsum", lambda x, axis, keepdims: np.log(x.sum(axis, keepdims=keepdims))),
        ("sumsquare", lambda x, axis, keepdims: (x**2).sum(axis, keepdims=keepdims)),
        ("logsumexp", lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims))),
    ],
)
def test_reductions_over_any_axes(kind, expected, options):
    y = run(lambda b: getattr(b, f"add_reduce_{kind}")("r", "x", "y", **options), {"x": X}, exact=True)
    close(y, expected(X, axis=tuple(options["axes"]), keepdims=options["keepdims"]), tolerance=1e-4)


def test_reducing_everything_leaves_one_dimension():
    y = run(lambda b: b.add_reduce_sum("r", "x", "y", reduce_all=True, keepdims=False), {"x": X}, exact=True)
    close(y, [X.sum()])


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("kind, expected", [("argmax", np.argmax), ("argmin", np.argmin)])
def test_indices_of_extremes(kind, expected, remove):
    y = run(lambda b: getattr(b, f"add_{kind}")("a", "x", "y", axis=-2, keepdims=not remove), {"x": X}, exact=True)
    close(y, expected(X, axis=-2, keepdims=not remove))


@pytest.mark.parametrize("bottom", [False, True])
def test_top_k_breaks_ties_by_the_lower_index(bottom):
    x = np.float32([[1, 3, 3, 2], [5, 5, 5, 4]])
    values, indices = run(
        lambda b: b.add_topk("t", ["x"], ["v", "i"], k=2, axis=1, use_bottom_k=bottom),
        {"x": x},
        ("v", "i"),
        exact=True,
    )
    close(values, [[1, 2], [4, 5]] if bottom else [[3, 3], [5, 5]])
    close(indices, [[0, 3], [3, 0]] if bottom else [[1, 2], [0, 1]])


@pytest.mark.parametrize("descending", [False, True])
def test_arg_sort(descending):
    y = run(lambda b: b.add_argsort("a", "x", "y", axis=1, descending=descending), {"x": X}, exact=True)
    close(y, np.argsort(-X if descending else X, axis=1))


@pytest.mark.parametrize(
    "exclusive, reverse, expected",
    [(False, False, [4, 10, 17]), (True, False, [0, 4, 10]), (False, True, [17, 13, 7]), (True, True, [13, 7, 0])],
)
def test_cumulative_sums_as_in_the_specification(exclusive, reverse, expected):
    y = run(
        lambda b: b.add_cumsum("c", ["x"], "y", axis=-1, exclusive=exclusive, reverse=reverse),
        {"x": np.float32([4, 6, 7])},
        exact=True,
    )
    close(y, expected)
