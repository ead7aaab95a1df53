"""Running models over samples, side by side."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, overload

from pytest_quantguard.cores import available_cores
from pytest_quantguard.errors import QuantguardError
from pytest_quantguard.runtime.engine import Engine, Outputs

KEEP_BYTES = 1 << 30
"""Outputs of one model that are kept in memory: a gigabyte holds 250,000 samples with 1000 scores each."""

Result = TypeVar("Result")


class Inputs(Protocol):
    """Samples by index: input dictionaries, or functions without arguments that return one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any] | Callable[[], Mapping[str, Any]]: ...


def for_each_sample(
    function: Callable[[int], Result], names: Sequence[str], *, workers: int | None = None
) -> Iterator[Result]:
    """Call a function with the index of every sample, in threads; yields the results in order.

    At most twice as many results as workers wait to be taken, so that memory stays flat. The first sample that
    fails, in order, ends the run.

    Args:
        function: takes a sample's index; called from several threads at once.
        names: the samples' names, one per index, for messages.
        workers: threads; by default as many as cores, since each engine runs single-threaded.

    Raises:
        QuantguardError: of the kind that the function raised, with the sample's name. Any other exception passes
            as it is, with the sample's name as a note.
    """
    workers = min(workers or available_cores(), max(1, len(names)))
    if workers == 1:
        for index in range(len(names)):
            yield _named(function, index, names)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="quantguard") as pool:
        try:
            for index in range(len(names)):
                waiting.append(pool.submit(_named, function, index, names))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def collect_outputs(
    engine: Engine, inputs: Inputs, *, names: Sequence[str], workers: int | None = None
) -> tuple[Outputs, ...]:
    """A model's outputs for every sample, in order, all held in memory.

    Right for classifiers, whose outputs are small. For images, use `StreamedOutputs`.

    Args:
        engine: executes the model.
        inputs: the samples.
        names: the samples' names, in the same order.
        workers: threads; by default as many as cores.

    Raises:
        QuantguardError: a sample failed; the message names it.
    """
    _check_lengths(inputs, names)
    return tuple(for_each_sample(lambda index: _run(engine, inputs, index), names, workers=workers))


class StreamedOutputs(Sequence[Outputs]):
    """A model's outputs by sample, computed when they are asked for, and kept up to a limit.

    A style transfer network answers a sample with 6 megabytes; 700 samples would fill more than 4 gigabytes. What
    is beyond the limit is computed again when it is asked for again: time instead of memory, and no temporary
    files. Outputs of a classifier stay far below the limit, so they are computed once.

    Args:
        engine: executes the model.
        inputs: the samples.
        keep_bytes: how much is kept; 0 keeps nothing, which suits outputs that are used once.
    """

    def __init__(self, engine: Engine, inputs: Inputs, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._engine = engine
        self._inputs = inputs
        self._room = keep_bytes
        self._kept: dict[int, Outputs] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._inputs)

    @overload
    def __getitem__(self, index: int) -> Outputs: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Outputs, ...]: ...

    def __getitem__(self, index: int | slice) -> Outputs | tuple[Outputs, ...]:
        """The outputs of a sample; may be called from several threads at once."""
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        outputs = _run(self._engine, self._inputs, index)
        with self._lock:
            size = _bytes(outputs)
            if index not in self._kept and size <= self._room:
                self._kept[index] = outputs
                self._room -= size
        return outputs


def _named(function: Callable[[int], Result], index: int, names: Sequence[str]) -> Result:
    try:
        return function(index)
    except QuantguardError as error:
        raise type(error)(f"Sample {names[index]!r}: {error}") from error
    except Exception as error:
        error.add_note(f"while running sample {names[index]!r}")
        raise


def _run(engine: Engine, inputs: Inputs, index: int) -> Outputs:
    sample = inputs[index]
    return engine.outputs(sample() if callable(sample) else sample)


def _bytes(outputs: Outputs) -> int:
    scores = 0 if outputs.scores is None else outputs.scores.nbytes
    return scores + sum(array.nbytes for array in outputs.arrays.values())


def _check_lengths(inputs: Inputs, names: Sequence[str]) -> None:
    if len(inputs) != len(names):
        raise ValueError(f"{len(inputs)} inputs and {len(names)} names; give one name per input")
