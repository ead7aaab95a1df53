"""Tensors are worked on side by side, in bounded memory, and all or none."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.schemes.schedule import each_by_size


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 5))
def test_every_tensor_is_worked_on_once_within_the_limit(sizes, workers):
    lock, calls, in_work = threading.Lock(), [], []

    def work(number):
        with lock:
            calls.append(number)
            in_work.append(number)
            assert sum(sizes[n] for n in in_work) <= max(sizes) + sum(sizes) / 16
        with lock:
            in_work.remove(number)
        return -number

    assert each_by_size(work, sizes, workers) == [-number for number in range(len(sizes))]
    assert sorted(calls) == list(range(len(sizes)))


def test_the_calling_thread_takes_the_largest_first_and_the_other_the_smallest():
    sizes, seen, both = [3, 9, 1, 2], {}, threading.Barrier(2)

    def work(number):
        if not seen.get(threading.get_ident()):
            both.wait(20)  # so that each of the two takes one
        seen.setdefault(threading.get_ident(), []).append(number)

    each_by_size(work, [100 * size for size in sizes] + [1] * 4000, 2)
    assert seen[threading.get_ident()][0] == 1
    others = [numbers for thread, numbers in seen.items() if thread != threading.get_ident()]
    assert others[0][0] >= 4


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_error_ends_the_work_and_is_raised(workers):
    calls = []

    def work(number):
        calls.append(number)
        if len(calls) == 10:
            raise ValueError(f"tensor {number}")

    with pytest.raises(ValueError, match="tensor"):
        each_by_size(work, [1] * 1000, workers)
    assert len(calls) < 900
