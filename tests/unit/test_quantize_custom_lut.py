"""A project's own lookup tables: the same function for both kinds of model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_makers import small_network, small_program

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.lookup_table import for_networks, for_programs
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme

ct = import_coremltools()


def uniform(bits, weights):
    """The table of `linear_lut`: even steps from the smallest weight to the largest."""
    low, high = weights.min(), weights.max()
    table = np.linspace(low, high, 2**bits)
    indices = np.round((weights - low) / ((high - low) or 1) * (2**bits - 1))
    return table.tolist(), indices


def scheme(bits, function=uniform):
    return Scheme(bits, "custom_lut", function)


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_a_network_gets_the_tables_of_the_function(bits):
    compression = quantize_model(small_network(), scheme(bits), name="m").compression
    linear = quantize_model(small_network(), Scheme(bits, "linear_lut"), name="m").compression
    assert compression == linear


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_a_program_gets_the_tables_of_the_function(bits):
    compression = quantize_model(small_program(), scheme(bits), name="m").compression
    linear = quantize_model(small_program(), Scheme(bits, "linear_lut"), name="m").compression
    assert compression == linear


def test_a_program_decodes_to_the_values_of_the_tables():
    from coremltools.optimize.coreml import decompress_weights, get_weights_metadata

    model = small_program()
    with quiet():
        quantized = decompress_weights(quantize_model(model, scheme(8), name="m").mlmodel)
        before = get_weights_metadata(model, 2048)
        after = get_weights_metadata(quantized, 2048)
    assert len(before) == len(after) == 2
    for old, new in zip(before.values(), after.values(), strict=True):
        assert np.abs(old.val - new.val).max() <= np.ptp(old.val) / 255 * 0.6


def test_the_function_sees_float64_weights_in_their_shape_whatever_the_kind():
    seen = []

    def spy(bits, weights):
        seen.append((bits, weights.shape, weights.dtype))
        return uniform(bits, weights)

    quantize_model(small_network(), scheme(4, spy), name="m")
    assert (4, (6, 512), np.float64) in seen
    seen.clear()
    quantize_model(small_program(), scheme(4, spy), name="m")
    assert (4, (6, 512), np.float64) in seen


def fails(bits, weights):
    raise KeyError("no such table")


WRONG = {
    "failed with KeyError: 'no such table'": fails,
    "returned 3 table values; return 16 finite ones": lambda bits, weights: ([0, 1, 2], np.zeros(weights.shape)),
    "returned 16 table values; return 16 finite": lambda bits, weights: ([np.nan] * 16, np.zeros(weights.shape)),
    "returned 1 indices; return one per weight": lambda bits, weights: (np.zeros(16), [0]),
    "no whole numbers from 0 to 15": lambda bits, weights: (np.zeros(16), np.full(weights.shape, 16)),
    "failed with TypeError": lambda bits, weights: None,
}


@pytest.mark.parametrize("maker", [small_network, small_program])
@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_answer_of_the_function_is_refused(maker, message):
    with pytest.raises(SchemeError, match=r"^lut_function, given 4 bits and weights of shape") as refused:
        quantize_model(maker(), scheme(4, WRONG[message]), name="m")
    assert message in str(refused.value)


def test_the_error_of_the_function_is_the_cause():
    with pytest.raises(SchemeError) as refused:
        quantize_model(small_network(), scheme(4, fails), name="m")
    assert isinstance(refused.value.__cause__, KeyError)


def test_a_failing_function_leaves_coremltools_as_it_was():
    before = serialize(quantize_model(small_network(), Scheme(4, "kmeans_lut"), name="m").mlmodel)
    with pytest.raises(SchemeError):
        quantize_model(small_network(), scheme(4, fails), name="m")
    assert serialize(quantize_model(small_network(), Scheme(4, "kmeans_lut"), name="m").mlmodel) == before


@settings(deadline=None, derandomize=True)
@given(
    bits=st.integers(1, 8),
    table=st.lists(st.floats(-1e3, 1e3) | st.sampled_from([float("nan"), float("inf")]), max_size=20),
    indices=st.lists(st.integers(-2, 300) | st.floats(allow_nan=True), min_size=4, max_size=4),
)
def test_an_answer_passes_if_and_only_if_it_is_a_table_with_indices_into_it(bits, table, indices):
    weights = np.arange(4, dtype=np.float16).reshape(2, 2)
    valid = (
        len(table) == 2**bits
        and np.isfinite(table).all()
        and all(float(index).is_integer() and 0 <= index < 2**bits for index in indices)
    )
    for call in (
        lambda: for_networks(lambda bits, weights: (table, indices))(bits, weights),
        lambda: for_programs(lambda bits, weights: (table, indices), bits)(weights),
    ):
        if not valid:
            with pytest.raises(SchemeError):
                call()
            continue
        made, chosen = call()
        assert made.shape == (2**bits,)
        assert chosen.tolist() == [int(index) for index in indices]
