import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.metrics.distortion import distortion, summarize
from pytest_quantguard.metrics.validity import check_scores, is_constant
from pytest_quantguard.quiet import import_coremltools


def pictures(seed, shape=(20, 30, 3)):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, shape).astype(np.uint8)


def test_eight_bit_images_do_not_wrap_around():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    brighter = image + np.uint8(16)
    found = distortion(image, brighter)
    assert found.snr == pytest.approx(20 * np.log10(100 / 16))
    assert found.psnr == found.snr
    assert distortion(image.astype(np.float32), brighter.astype(np.float32)) == found


def test_coremltools_takes_a_picture_that_is_off_by_16_everywhere_for_a_perfect_one():
    import_coremltools()
    from coremltools.models.neural_network.quantization_utils import NoiseMetrics
    from PIL import Image

    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    metrics = NoiseMetrics()
    metrics.add_metric(Image.fromarray(image), Image.fromarray(image + np.uint8(16)))
    assert metrics._snr[0] > 60


def test_ratios_equal_those_of_coremltools_on_floats():
    import_coremltools()
    from coremltools.models.neural_network.quantization_utils import NoiseMetrics

    random = np.random.default_rng(1)
    metrics = NoiseMetrics()
    for noise in (0.01, 0.1, 1.0, 30.0):
        reference = random.normal(0, 10, (4, 5, 6))
        changed = reference + random.normal(0, noise, reference.shape)
        # coremltools takes its second argument for the signal.
        metrics.add_metric(changed, reference)
        found = distortion(reference, changed)
        assert (found.snr, found.psnr) == pytest.approx((metrics._snr[-1], metrics._psnr[-1]), abs=0.01)


def test_equal_outputs_get_100_decibel_and_vanished_signals_minus_100():
    image = pictures(2)
    assert distortion(image, image) == (100, 100)
    zeros = np.zeros((3, 3), dtype=np.float32)
    assert distortion(zeros, zeros) == (100, 100)
    assert distortion(zeros, zeros + 1) == (-100, -100)


def test_a_quantized_output_of_zeros_has_as_much_noise_as_signal():
    image = pictures(3)
    assert distortion(image, np.zeros_like(image)).snr == pytest.approx(0)


@pytest.mark.parametrize("factor", [1e-30, 1e-4, 1e4, 1e30])
def test_ratios_do_not_depend_on_the_unit(factor):
    reference = np.random.default_rng(4).normal(size=50)
    changed = reference + 0.01
    assert distortion(reference * factor, changed * factor) == pytest.approx(distortion(reference, changed))


def test_numbers_near_the_end_of_float64_do_not_overflow():
    huge = np.array([1e300, -1e300])
    assert distortion(huge, huge * 0.9).snr == pytest.approx(20)


def test_a_single_number_is_an_output_too():
    assert distortion(np.array(10.0), np.array(9.0)).snr == pytest.approx(20)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 200))
def test_more_noise_is_never_a_better_ratio(seed, step):
    reference = np.random.default_rng(seed).normal(size=20).astype(np.float32)
    noise = np.random.default_rng(seed + 1).normal(size=20).astype(np.float32)
    better = distortion(reference, reference + noise * np.float32(step / 1000))
    worse = distortion(reference, reference + noise * np.float32((step + 1) / 1000))
    assert worse.snr <= better.snr <= better.psnr <= 100


def test_a_summary_names_the_worst_sample():
    reference = np.ones(4)
    distortions = [distortion(reference, reference + error) for error in (0.1, 0.5, 0.01, 0.5)]
    summary = summarize("image", distortions, ["a", "d", "c", "b"])
    assert summary.worst_sample == "b"
    assert summary.worst_snr == summary.worst_psnr == pytest.approx(20 * np.log10(2))
    assert summary.mean_snr == pytest.approx((20 + 2 * 20 * np.log10(2) + 40) / 4)


GOOD = [0.7, 0.2, 0.1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused_with_the_samples_name(value):
    scores = np.array([GOOD, [0.1, value, 0.2], GOOD], dtype=np.float32)
    message = (
        r"^The float model food\.mlmodel answers NaN or infinite scores for 1 of 3 samples \('b\.png'\); "
        r"that is no answer, so nothing can be compared\.$"
    )
    with pytest.raises(PredictionError, match=message):
        check_scores(scores, ["a.png", "b.png", "c.png"], "the float model food.mlmodel")


def test_only_the_first_three_bad_samples_are_listed():
    scores = np.full((5, 3), np.nan, dtype=np.float32)
    with pytest.raises(PredictionError, match=r"5 of 5 samples \('a', 'b', 'c', \.\.\.\)"):
        check_scores(scores, list("abcde"), "the model")


def test_equal_scores_for_every_class_are_refused():
    scores = np.array([GOOD, [0.25, 0.25, 0.25]], dtype=np.float32)
    with pytest.raises(PredictionError, match=r"the same score for every class for 1 of 2 samples \('b'\)"):
        check_scores(scores, ["a", "b"], "the model")


def test_a_tie_of_two_classes_is_refused_only_when_every_sample_ties():
    check_scores(np.array([[0.5, 0.5], [0.4, 0.6]], dtype=np.float32), ["a", "b"], "the model")
    with pytest.raises(PredictionError, match="2 of 2 samples"):
        check_scores(np.array([[0.5, 0.5], [0.5, 0.5]], dtype=np.float32), ["a", "b"], "the model")


def test_one_class_is_never_constant():
    check_scores(np.array([[1], [1]], dtype=np.float32), ["a", "b"], "the model")
    assert not is_constant(np.array(3.0))
    assert is_constant(np.array([3.0, 3.0]))
    assert not is_constant(np.array([3.0, 3.5]))
