import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.metrics import answers, concentration, divergence
from pytest_quantguard.metrics.classifier import classifier_metrics
from pytest_quantguard.quiet import import_coremltools


def random_scores(seed, samples, places, levels=None):
    """Rows that sum to about 1; with few levels there are many ties."""
    random = np.random.default_rng(seed)
    raw = (
        random.integers(1, levels + 1, (samples, places)) if levels else random.gamma(0.3, size=(samples, places))
    )
    raw = raw + 1e-6
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def measure(float_scores, quantized_scores, labels=None, truth=None):
    samples, places = float_scores.shape
    labels = labels or [f"class {place}" for place in range(places)]
    names = [f"{index:03}.png" for index in range(samples)]
    return classifier_metrics(float_scores, quantized_scores, labels, names, truth or [None] * samples)


def rows(*values):
    return np.array(values, dtype=np.float32)


@st.composite
def score_pairs(draw):
    samples, places = draw(st.integers(1, 30)), draw(st.integers(2, 12))
    levels = draw(st.sampled_from([None, 2, 4]))
    seed = draw(st.integers(0, 2**32 - 1))
    before = random_scores(seed, samples, places, levels)
    after = random_scores(seed + 1, samples, places, levels)
    labels = [f"class {place}" for place in range(places)]
    if draw(st.booleans()):
        labels[-1] = labels[0]
    truth = np.random.default_rng(seed + 2).choice(labels, samples).tolist()
    return before, after, labels, truth


@settings(deadline=None)
@given(score_pairs())
def test_top1_agreement_is_symmetric_and_flips_add_up(pair):
    before, after, labels, truth = pair
    metrics = measure(before, after, labels, truth)
    back = measure(after, before, labels, truth)
    assert metrics.top1_agreement.count == back.top1_agreement.count
    flips = metrics.flips
    assert flips.total == flips.fixed + flips.broken + flips.wrong_to_wrong
    assert flips.total == len(before) - metrics.top1_agreement.count
    assert flips.total == sum(row.flipped for row in metrics.rows)
    assert (back.flips.fixed, back.flips.broken) == (flips.broken, flips.fixed)
    assert metrics.labelled.top1_delta.count == flips.fixed - flips.broken
    assert metrics.labelled.mcnemar_p == back.labelled.mcnemar_p


@settings(deadline=None)
@given(score_pairs())
def test_class_rows_add_up_to_the_whole(pair):
    before, after, labels, truth = pair
    labelled = measure(before, after, labels, truth).labelled
    assert sum(row.float_accuracy.total for row in labelled.classes) == len(before)
    assert sum(row.float_accuracy.count for row in labelled.classes) == labelled.float_top1.count
    assert sum(row.quantized_accuracy.count for row in labelled.classes) == labelled.quantized_top1.count
    assert [row.label for row in labelled.classes] == [label for label in dict.fromkeys(labels) if label in truth]
    assert labelled.worst_class.delta == min(row.delta for row in labelled.classes)


@settings(deadline=None)
@given(score_pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_no_metric(pair, random):
    before, after, labels, truth = pair
    names = [f"{index:03}.png" for index in range(len(before))]
    order = list(range(len(before)))
    random.shuffle(order)
    metrics = classifier_metrics(before, after, labels, names, truth)
    shuffled = classifier_metrics(
        before[order], after[order], labels, [names[index] for index in order], [truth[index] for index in order]
    )
    for name in type(metrics).__dataclass_fields__:
        if name != "rows":
            assert getattr(shuffled, name) == getattr(metrics, name), name
    assert sorted(shuffled.rows, key=lambda row: row.name) == list(metrics.rows)


@settings(deadline=None)
@given(score_pairs())
def test_divergence_is_never_negative_and_zero_only_without_change(pair):
    before, after, _, _ = pair
    assert (divergence.kullback_leibler(before, after) >= 0).all()
    assert (divergence.kullback_leibler(before, before) == 0).all()


@pytest.mark.parametrize("levels", [None, 2])
def test_top1_and_top5_equal_those_of_coremltools_compare_models(levels):
    import_coremltools()
    from coremltools.models.neural_network.quantization_utils import TopKMetrics

    before, after = random_scores(1, 400, 11, levels), random_scores(2, 400, 11, levels)
    labels = [f"class {place}" for place in range(11)]
    top1, top5 = TopKMetrics(1), TopKMetrics(5)
    for row, changed in zip(before, after, strict=True):
        old = dict(zip(labels, row.tolist(), strict=True))
        new = dict(zip(labels, changed.tolist(), strict=True))
        top1.add_metric(max(old, key=old.get), max(new, key=new.get))
        top5.add_metric(old, new)
    metrics = measure(before, after, labels)
    assert metrics.top1_agreement.count == top1._correct_count
    assert metrics.top5_agreement.count == top5._correct_count
    assert 0 < metrics.top1_agreement.count < metrics.top5_agreement.count < 400


def test_top5_of_coremltools_says_100_percent_of_anything_with_five_classes_so_it_is_left_out():
    import_coremltools()
    from coremltools.models.neural_network.quantization_utils import TopKMetrics

    topk = TopKMetrics(5)
    topk.add_metric(
        dict(zip("abcde", [1, 0, 0, 0, 0], strict=True)), dict(zip("abcde", [0, 0, 0, 0, 1], strict=True))
    )
    assert topk._correct_count == 1
    metrics = measure(rows([1, 0, 0, 0, 0]), rows([0, 0, 0, 0, 1]), truth=["class 0"])
    assert (metrics.top1_agreement, metrics.top5_agreement, metrics.class_count) == (0, None, 5)
    assert metrics.labelled.float_top5 is None
    assert metrics.labelled.quantized_top5 is None
    assert metrics.labelled.top5_delta is None


def test_top5_accuracy_looks_at_each_models_own_best_five():
    before = rows([0.4, 0.2, 0.15, 0.1, 0.1, 0.05, 0.0])
    after = rows([0.05, 0.4, 0.2, 0.15, 0.1, 0.1, 0.0])
    labelled = measure(before, after, truth=["class 0"]).labelled
    assert (labelled.float_top5, labelled.quantized_top5, labelled.top5_delta) == (1, 0, -1)


def test_ties_go_to_the_first_label():
    assert answers.top_places(rows([0.2, 0.4, 0.4], [0.3, 0.3, 0.4], [0.5, 0, 0.5]), 3).tolist() == [
        [1, 2, 0],
        [2, 0, 1],
        [0, 2, 1],
    ]


def test_top_places_equal_a_stable_sort_across_blocks(monkeypatch):
    scores = random_scores(3, 50, 9, levels=3)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    monkeypatch.setattr(answers, "BLOCK_ENTRIES", 9 * 7)
    assert (answers.top_places(scores, 5) == expected).all()
    assert (answers.top_places(scores, 99) == np.argsort(-scores, axis=1, kind="stable")).all()


def test_blocks_do_not_change_margins_or_divergence(monkeypatch):
    before, after = random_scores(4, 50, 9), random_scores(5, 50, 9)
    whole = measure(before, after)
    monkeypatch.setattr(answers, "BLOCK_ENTRIES", 9 * 7)
    assert measure(before, after) == whole


def test_equal_labels_are_one_class_and_none_is_lost():
    labels = ["crane", "kite", "crane"]
    before, after = rows([0.5, 0.1, 0.4], [0.1, 0.8, 0.1]), rows([0.4, 0.1, 0.5], [0.1, 0.2, 0.7])
    metrics = measure(before, after, labels, ["crane", "kite"])
    assert metrics.top1_agreement.count == 1
    assert [row.quantized_answer for row in metrics.rows] == ["crane", "crane"]
    assert metrics.labelled.quantized_top1.count == 1
    assert metrics.quantized_concentration.distinct_classes == 1
    assert metrics.class_count == 2
    assert metrics.rows[0].float_margin == pytest.approx(0.4), "the runner-up is another class, not another place"
    assert metrics.mean_divergence > 0.1, "divergence sees all places"


def test_a_near_tie_is_marked_by_the_float_models_own_margin():
    before = rows([0.40005, 0.4, 0.19995], [0.402, 0.4, 0.198])
    metrics = measure(before, before)
    assert [row.near_tie for row in metrics.rows] == [True, False]
    assert metrics.near_ties == 1


def test_rows_hold_both_answers_with_confidence_and_margin():
    metrics = measure(rows([0.7, 0.2, 0.1]), rows([0.3, 0.6, 0.1]), ["hot dog", "pizza", "steak"], ["hot dog"])
    (row,) = metrics.rows
    assert (row.name, row.label, row.float_answer, row.quantized_answer) == (
        "000.png",
        "hot dog",
        "hot dog",
        "pizza",
    )
    assert (row.float_confidence, row.float_margin) == pytest.approx((0.7, 0.5))
    assert (row.quantized_confidence, row.quantized_margin) == pytest.approx((0.6, 0.3))
    assert metrics.confidence_lost == pytest.approx(0.4)


def test_one_class_has_its_score_as_margin():
    (row,) = measure(rows([0.75]), rows([0.75]), ["thing"]).rows
    assert (row.float_answer, row.float_margin) == ("thing", 0.75)


def test_without_a_label_on_every_sample_there_is_no_accuracy():
    before = rows([0.7, 0.3], [0.4, 0.6])
    metrics = measure(before, before[::-1].copy(), ["a", "b"], ["a", None])
    assert metrics.labelled is None
    assert (metrics.flips.total, metrics.flips.broken) == (2, None)
    assert [row.label for row in metrics.rows] == ["a", None]


def test_the_worst_class_is_the_first_in_label_order_among_equals():
    before = rows([1, 0, 0], [0, 1, 0], [0, 0, 1])
    after = rows([0, 1, 0], [1, 0, 0], [0, 0, 1])
    labelled = measure(before, after, ["b", "a", "c"], ["b", "a", "c"]).labelled
    assert labelled.worst_class.label == "b"
    assert repr(labelled.worst_class.delta) == "-1.0000 (1 of 1 fewer)"


def test_divergence_equals_the_textbook_formula():
    before, after = rows([0.5, 0.25, 0.25]), rows([0.25, 0.5, 0.25])
    assert divergence.kullback_leibler(before, after)[0] == pytest.approx(0.25 * math.log(2), abs=1e-6)


def test_divergence_equals_scipy_on_probabilities():
    from scipy.stats import entropy

    before, after = random_scores(6, 40, 100), random_scores(7, 40, 100)
    lift = 1e-3
    before, after = before + np.float32(lift), after + np.float32(lift)
    expected = entropy(before.astype(np.float64), after.astype(np.float64), axis=1)
    assert divergence.kullback_leibler(before, after) == pytest.approx(expected, rel=1e-3)


def test_divergence_of_a_vanished_answer_is_large_but_finite():
    found = divergence.kullback_leibler(rows([1, 0, 0], [1, 0, 0]), rows([0, 1, 0], [1e-30, 1, 0]))
    assert found == pytest.approx(24 * math.log(2), abs=1e-3)
    assert found[0] == found[1], "float16 answers 0 where float32 answers a tiny number"


def test_divergence_of_negative_scores_is_that_of_their_softmax():
    logits, changed = rows([3, -1, 0.5], [900, -900, 0]), rows([2, -1, 0.5], [900, -900, 0])

    def softmax(values):
        return np.exp(values) / np.exp(values).sum()

    p, q = softmax(logits[0].astype(np.float64)), softmax(changed[0].astype(np.float64))
    found = divergence.kullback_leibler(logits, changed)
    assert found[0] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4)
    assert found[1] == 0


def test_divergence_of_all_zero_scores_is_that_of_even_ones():
    assert divergence.kullback_leibler(rows([0, 0]), rows([0.5, 0.5]))[0] == 0


def test_the_worst_divergence_names_its_sample():
    metrics = measure(rows([0.9, 0.1], [0.9, 0.1], [0.9, 0.1]), rows([0.8, 0.2], [0.1, 0.9], [0.1, 0.9]))
    assert metrics.worst_divergence_sample == "001.png"
    assert metrics.worst_divergence == pytest.approx(0.8 * math.log(9), rel=1e-5)


def test_divergence_of_a_hair_is_not_rounded_below_zero():
    before = random_scores(8, 500, 4)
    assert (divergence.kullback_leibler(before, np.nextafter(before, np.float32(1))) >= 0).all()


def numbers(**counts):
    return np.concatenate([np.full(count, int(name[1:])) for name, count in counts.items()])


@pytest.mark.parametrize(
    ("before", "after", "labels", "expected"),
    [
        pytest.param(numbers(c0=50, c1=50), numbers(c1=100), None, 1, id="everything is a hot dog"),
        pytest.param(numbers(c0=50, c1=50), numbers(c1=91, c0=9), None, 1, id="nearly everything"),
        pytest.param(
            numbers(c0=50, c1=50), numbers(c1=89, c0=11), None, None, id="most, but not nearly everything"
        ),
        pytest.param(numbers(c0=95, c1=5), numbers(c0=100), None, None, id="a folder of one class"),
        pytest.param(
            numbers(c0=70, c1=30), numbers(c0=95, c1=5), numbers(c0=100), None, id="labels say one class"
        ),
        pytest.param(numbers(c0=95, c1=5), numbers(c1=100), numbers(c0=100), 1, id="one class became another"),
        pytest.param(numbers(c0=100), numbers(c0=100), None, None, id="the float model has collapsed, too"),
        pytest.param(numbers(c0=2, c1=2), numbers(c1=4), None, None, id="too few samples to say"),
        pytest.param(
            numbers(c0=1, c1=1, c2=1, c3=1, c4=1, c5=1), numbers(c2=6), None, 2, id="a handful is enough"
        ),
    ],
)
def test_collapse_is_one_answer_for_nearly_everything_that_was_not_expected(before, after, labels, expected):
    known = [before] if labels is None else [before, labels]
    assert concentration.collapsed_onto(after, known) == expected


def test_a_collapsed_model_is_named_by_its_class():
    samples = 20
    before = np.eye(4, dtype=np.float32)[np.arange(samples) % 4]
    after = np.tile(rows([0.1, 0.1, 0.7, 0.1]), (samples, 1))
    metrics = measure(before, after, ["apple pie", "pizza", "hot dog", "steak"])
    assert metrics.collapsed_onto == "hot dog"
    assert metrics.quantized_concentration.most_predicted_share == 1
    assert metrics.quantized_concentration.distinct_classes == 1
    assert metrics.float_concentration.most_predicted == "apple pie"
    assert metrics.float_concentration.distinct_classes == 4


def test_a_folder_of_one_class_is_no_collapse_even_where_the_float_model_is_weak():
    classes = np.array([0] * 14 + [1] * 6)
    before = np.eye(4, dtype=np.float32)[classes]
    after = np.tile(rows([0.7, 0.1, 0.1, 0.1]), (20, 1))
    labels = ["pizza", "ramen", "steak", "sushi"]
    assert measure(before, after, labels, ["pizza"] * 20).collapsed_onto is None
    assert measure(before, after, labels).collapsed_onto == "pizza"
