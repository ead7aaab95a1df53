import copy
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.metrics.share import Delta, Share
from pytest_quantguard.metrics.statistics import mcnemar_p, smallest_resolvable_drop, wilson_interval

COUNT_AND_TOTAL = st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


def test_wilson_interval_equals_scipy():
    from scipy.stats import binomtest

    for count, total in [(0, 7), (1, 7), (98, 100), (350, 700), (700, 700)]:
        expected = binomtest(count, total).proportion_ci(method="wilson")
        assert wilson_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(deadline=None)
@given(COUNT_AND_TOTAL)
def test_wilson_interval_contains_the_share_and_stays_in_bounds(count_and_total):
    count, total = count_and_total
    low, high = wilson_interval(count, total)
    assert 0 <= low <= count / total <= high <= 1
    assert low < high


@pytest.mark.parametrize("broken", range(6))
@pytest.mark.parametrize("fixed", range(6))
def test_mcnemar_equals_counting_every_way_the_changes_could_fall(broken, fixed):
    def unevenness(ways):
        return abs(2 * sum(ways) - len(ways))

    outcomes = list(itertools.product((0, 1), repeat=broken + fixed))
    as_uneven = sum(unevenness(outcome) >= abs(broken - fixed) for outcome in outcomes)
    assert mcnemar_p(broken, fixed) == pytest.approx(as_uneven / len(outcomes), abs=1e-15)


def test_mcnemar_equals_scipy_for_large_counts():
    from scipy.stats import binomtest

    for broken, fixed in [(74, 71), (40, 12), (1200, 1000), (20_000, 20_300)]:
        assert mcnemar_p(broken, fixed) == pytest.approx(binomtest(broken, broken + fixed).pvalue, rel=1e-9)


def test_mcnemar_of_nothing_changed_is_one():
    assert mcnemar_p(0, 0) == 1.0


def test_mcnemar_survives_numbers_beyond_floats():
    assert mcnemar_p(50_000, 0) == 0.0
    assert mcnemar_p(25_000, 25_000) == 1.0


def test_six_broken_answers_are_the_fewest_that_tell_a_drop():
    assert mcnemar_p(5, 0) > 0.05 > mcnemar_p(6, 0)
    assert smallest_resolvable_drop(100) == 0.06
    assert smallest_resolvable_drop(600) == 0.01
    assert smallest_resolvable_drop(3) > 1


def test_a_share_reads_as_a_number_and_explains_itself():
    share = Share(98, 100)
    assert share >= 0.98
    assert repr(share) == "0.9800 (98 of 100, 95 % interval 0.9300 to 0.9945)"
    assert json.dumps({"share": share}) == '{"share": 0.98}'


def test_a_delta_reads_as_a_number_and_explains_itself():
    assert Delta(-2, 100) == -0.02
    assert repr(Delta(-2, 100)) == "-0.0200 (2 of 100 fewer)"
    assert repr(Delta(1, 100)) == "+0.0100 (1 of 100 more)"
    assert repr(Delta(0, 100)) == "0.0000 (no change of 100)"
    assert f"{Delta(-2, 100):+.3f}" == "-0.020"
    assert json.dumps(Delta(-2, 100)) == "-0.02"


@pytest.mark.parametrize("value", [Share(3, 7), Delta(-3, 7)])
def test_shares_and_deltas_survive_copying(value):
    twin = copy.deepcopy(value)
    assert (twin, twin.count, twin.total, repr(twin)) == (value, value.count, value.total, repr(value))


def test_a_delta_between_shares_needs_one_total():
    assert repr(Delta.between(Share(5, 10), Share(3, 10))) == "-0.2000 (2 of 10 fewer)"
    with pytest.raises(ValueError, match="no common delta"):
        Delta.between(Share(5, 10), Share(5, 11))
