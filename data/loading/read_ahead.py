"""What a loader without workers reads while the model trains: the next blocks, on a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_BLOCKS = 2
"""That are asked for before the first of them is needed."""


class ReadAhead:
    """Reads what is asked for on one thread, in its order.

    Args:
        read: reads what is asked for; an error is part of what it returns.
        begin: called with it first, to have its files read meanwhile.
        threaded: read on a thread; else when it is needed.
    """

    def __init__(self, read: Callable[[Any], Any], begin: Callable[[Any], None], *, threaded: bool) -> None:
        self._read = read
        self._begin = begin
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read ahead") if threaded else None

    def results(self, asked: Iterator[Any]) -> Iterator[Any]:
        """Yield what was read for each of ``asked``."""
        under_way: deque[Callable[[], Any]] = deque()
        for one in asked:
            self._begin(one)
            under_way.append(self._submitted(one))
            if len(under_way) > _BLOCKS:
                yield under_way.popleft()()
        while under_way:
            yield under_way.popleft()()

    def _submitted(self, one: Any) -> Callable[[], Any]:
        if self._thread is None:
            return lambda: self._read(one)
        future: Future[Any] = self._thread.submit(self._read, one)
        return future.result
