"""Packing and unpacking indices: the same bytes as coremltools makes bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.models.neural_network_weights import unpack_integers
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.schemes.packing import pack_integers

import_coremltools()


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 7), st.lists(st.integers(0, 255), min_size=1, max_size=70))
def test_bytes_are_those_of_coremltools(bits, values):
    from coremltools.models.neural_network.quantization_utils import _convert_array_to_nbit_quantized_bytes

    values = np.array(values, np.uint8)
    assert pack_integers(values, bits) == _convert_array_to_nbit_quantized_bytes(values, bits).tobytes()


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=70))
def test_unpacking_gives_back_the_lowest_bits(bits, values):
    values = np.array(values, np.uint8)
    packed = pack_integers(values, bits)
    assert len(packed) == -(-len(values) * bits // 8)
    unpacked = unpack_integers(packed, len(values), bits)
    assert unpacked.dtype == np.uint8
    assert unpacked.tolist() == (values & (2**bits - 1)).tolist()


@pytest.mark.parametrize("bits", range(1, 8))
def test_unpacking_agrees_with_coremltools(bits):
    from coremltools.models.neural_network.quantization_utils import _unpack_to_bytes

    packed = np.random.default_rng(bits).integers(0, 256, 7 * bits).astype(np.uint8)
    ours = unpack_integers(packed.tobytes(), 56, bits)
    assert ours.tolist() == _unpack_to_bytes(packed, 56, bits).tolist()
