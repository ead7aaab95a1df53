import os
import threading
import time

import numpy as np
import pytest

from pytest_quantguard.cores import available_cores
from pytest_quantguard.errors import PredictionError, SampleError
from pytest_quantguard.outputs import StreamedOutputs, collect_outputs, for_each_sample
from pytest_quantguard.runtime.engine import Outputs


class DoublingEngine:
    """Answers twice its input `x`, and keeps count."""

    name = "portable"
    version = "doubling 1"

    def __init__(self, size=1):
        self.calls = []
        self.size = size

    def outputs(self, inputs):
        self.calls.append(inputs["x"])
        if inputs["x"] < 0:
            raise PredictionError("x is negative.")
        return Outputs(None, {"y": np.full(self.size, 2 * inputs["x"], dtype=np.float32)})


def inputs_and_names(count):
    return [{"x": index} for index in range(count)], [f"{index}.png" for index in range(count)]


def values(outputs):
    return [float(one.arrays["y"][0]) for one in outputs]


@pytest.mark.parametrize("workers", [1, 2, 7, None])
def test_outputs_come_in_the_order_of_the_samples(workers):
    inputs, names = inputs_and_names(40)
    outputs = collect_outputs(DoublingEngine(), inputs, names=names, workers=workers)
    assert values(outputs) == [2.0 * index for index in range(40)]


def test_samples_may_be_functions_that_make_the_inputs():
    outputs = collect_outputs(DoublingEngine(), [lambda: {"x": 4}, lambda: {"x": 5}], names=["a", "b"])
    assert values(outputs) == [8.0, 10.0]


def test_every_input_needs_a_name():
    with pytest.raises(ValueError, match="2 inputs and 1 names"):
        collect_outputs(DoublingEngine(), [{"x": 1}, {"x": 2}], names=["a"])


def test_samples_really_run_side_by_side():
    both = threading.Barrier(2, timeout=20)
    results = for_each_sample(lambda index: both.wait() >= 0, ["a", "b"], workers=2)
    assert list(results) == [True, True]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_failing_sample_is_named_and_the_first_in_order_wins(workers):
    def run(index):
        if index == 3:
            time.sleep(0.05)
            raise SampleError("The file is broken.")
        if index == 4:
            raise PredictionError("Never mind.")
        return index

    with pytest.raises(SampleError, match=r"^Sample '3\.png': The file is broken\.$"):
        list(for_each_sample(run, inputs_and_names(9)[1], workers=workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unforeseen_exception_keeps_its_kind_and_gets_the_name_as_a_note(workers):
    with pytest.raises(ZeroDivisionError) as raised:
        list(for_each_sample(lambda index: 1 // (2 - index), inputs_and_names(5)[1], workers=workers))
    assert raised.value.__notes__ == ["while running sample '2.png'"]


def test_no_more_samples_than_needed_wait_in_memory():
    started = []
    results = for_each_sample(started.append, [str(index) for index in range(100)], workers=2)
    next(results)
    time.sleep(0.1)
    assert len(started) <= 4
    results.close()
    assert len(started) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quantguard")]


def test_a_failure_starts_no_further_samples():
    started = []

    def run(index):
        started.append(index)
        raise PredictionError("no")

    with pytest.raises(PredictionError):
        list(for_each_sample(run, [str(index) for index in range(100)], workers=2))
    assert len(started) <= 4


def test_samples_that_wait_behind_a_failure_are_dropped():
    started = []
    release = threading.Event()
    timer = threading.Timer(1.0, release.set)

    def run(index):
        started.append(index)
        if index == 0:
            raise PredictionError("no")
        release.wait(20)

    timer.start()
    with pytest.raises(PredictionError):
        list(for_each_sample(run, ["a", "b", "c", "d", "e"], workers=2))
    timer.join()
    assert 3 not in started


def test_no_samples_are_no_work():
    assert collect_outputs(DoublingEngine(), [], names=[]) == ()


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_streamed_outputs_are_computed_once_when_asked_for():
    engine = DoublingEngine()
    outputs = StreamedOutputs(engine, inputs_and_names(3)[0])
    assert (len(outputs), engine.calls) == (3, [])
    assert values(outputs) == values(outputs) == [0.0, 2.0, 4.0]
    assert values([outputs[-1], *outputs[1:]]) == [4.0, 2.0, 4.0]
    assert engine.calls == [0, 1, 2]
    with pytest.raises(IndexError):
        outputs[3]


def test_streamed_outputs_beyond_the_limit_are_computed_again():
    engine = DoublingEngine(size=100)
    outputs = StreamedOutputs(engine, inputs_and_names(3)[0], keep_bytes=2 * 400)
    assert values(outputs) == values(outputs) == [0.0, 2.0, 4.0]
    assert engine.calls == [0, 1, 2, 2]


def test_streamed_outputs_that_are_not_kept_leave_nothing_behind():
    engine = DoublingEngine()
    outputs = StreamedOutputs(engine, inputs_and_names(2)[0], keep_bytes=0)
    assert values(outputs) == values(outputs)
    assert engine.calls == [0, 1, 0, 1]
