"""Working on tensors side by side in bounded memory."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Of all weights, the share that may be worked on beside the largest tensor. K-means takes 30 bytes per weight.
_SHARE = 1 / 16


def each_by_size(work: Callable[[int], Result], sizes: Sequence[int], workers: int) -> list[Result]:
    """Call a function for every tensor's number, several at a time.

    The calling thread takes the largest tensors first and the others take the smallest first, so large arrays come
    and go in one thread, whose memory can be used again.

    Args:
        work: takes a number from 0 on, and may be called in any order.
        sizes: of each tensor, how many weights it has.
        workers: how many threads to use.

    Returns:
        What the calls return, in the order of the sizes.
    """
    queue = _Queue(sizes)
    results: dict[int, Result] = {}

    def run(*, largest: bool) -> None:
        with queue:
            while (number := queue.take(largest=largest)) is not None:
                results[number] = work(number)
                queue.finish(number)

    with ThreadPoolExecutor(max(workers - 1, 1)) as pool:
        others = [pool.submit(run, largest=False) for _ in range(workers - 1)]
        run(largest=True)
        for other in others:
            other.result()
    return [results[number] for number in range(len(sizes))]


class _Queue:
    """Numbers of tensors, sorted by size; leaving it with an exception ends the work of all."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._waiting = deque(sorted(range(len(sizes)), key=lambda number: -sizes[number]))
        self._limit = max(sizes, default=0) + int(sum(sizes) * _SHARE)
        self._in_work = 0
        self._changed = threading.Condition()

    def take(self, *, largest: bool) -> int | None:
        """The next tensor, as soon as its weights fit beside those in work; None if there is none left."""
        end = 0 if largest else -1
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._fits(self._waiting[end]))
            if not self._waiting:
                return None
            number = self._waiting.popleft() if largest else self._waiting.pop()
            self._in_work += self._sizes[number]
            return number

    def finish(self, number: int) -> None:
        with self._changed:
            self._in_work -= self._sizes[number]
            self._changed.notify_all()

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with self._changed:
                self._waiting.clear()
                self._changed.notify_all()

    def _fits(self, number: int) -> bool:
        return self._in_work + self._sizes[number] <= self._limit
