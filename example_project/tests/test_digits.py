"""Which quantized versions of the digit classifier are good enough for the app."""

import pytest

ML_PROGRAM = "model/digits.mlpackage"


@pytest.mark.quantized(bits=8, mode="kmeans_lut")
def test_shipped_model(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot


@pytest.mark.quantized(bits=16, mode="linear")
@pytest.mark.quantized(bits=[8, 6, 4], mode=["linear", "kmeans_lut"])
def test_neural_network(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot


@pytest.mark.quantized(model=ML_PROGRAM, bits=8, mode="linear")
@pytest.mark.quantized(model=ML_PROGRAM, bits=[8, 6, 4], mode="kmeans_lut")
def test_ml_program(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot


@pytest.mark.quantized(bits=6, mode="kmeans_lut")
def test_six_bits_answer_what_the_float_model_answers(comparison):
    assert comparison.top1_agreement >= 0.98
