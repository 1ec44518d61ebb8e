"""When tasks are handed to a runner: each one when what it reads is there, and not before.

A task that waits inside a cluster would hold a worker, and a GPU, while it waits. So the flow keeps
those whose turn has not come, hands over the others in the order in which they were asked for, and
is the one place that hears of every task's end, on whatever machine that was.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect.futures import PrefectFuture

Submit = Callable[[list[PrefectFuture[Any]]], PrefectFuture[Any]]


class Part:
    """A task that was asked for; compare `concurrent.futures.Future`."""

    def __init__(
        self, owner: Submission, number: int, submit: Submit, tell: Callable[[Any], None] | None
    ) -> None:
        self._owner, self._number, self._submit, self._tell = owner, number, submit, tell
        self._needs: list[Part] = []
        self._waits = 0
        self._followers: list[Part] = []
        self._future: PrefectFuture[Any] | None = None
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._is_done = False

    def __lt__(self, other: Part) -> bool:
        return self._number < other._number

    def result(self) -> Any:
        """Wait for its end and return what it returned.

        Raises:
            BaseException: What it, or a task that it needs, raised.
        """
        self._owner.go_on_until(self)
        if self._error is not None:
            raise self._error
        return self._outcome

    @property
    def future(self) -> PrefectFuture[Any]:
        """Its end as Prefect knows it, once it was handed over."""
        assert self._future is not None
        return self._future


class Submission:
    """The tasks of a flow run.

    Args:
        at_once: Tasks that are handed over at a time; None: all whose turn has come.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self._at_once = at_once
        self._asked = self._running = 0
        self._ready: list[Part] = []
        self._ended: SimpleQueue[Part] = SimpleQueue()

    def ask(
        self, submit: Submit, after: Iterable[Part] = (), tell: Callable[[Any], None] | None = None
    ) -> Part:
        """Have a task done when others are.

        Args:
            submit: Hands it to the runner; gets the futures of those others.
            after: The others.
            tell: Called in the flow's thread with what the task returned.
        """
        part = Part(self, self._asked, submit, tell)
        self._asked += 1
        part._needs = list(after)
        waits = [need for need in part._needs if not need._is_done]
        for need in waits:
            need._followers.append(part)
        part._waits = len(waits)
        if (failed := next((need for need in part._needs if need._error), None)) is not None:
            self._finish(part, None, failed._error)
        elif not waits:
            heapq.heappush(self._ready, part)
            self._hand_over()
        return part

    def go_on_until(self, part: Part) -> None:
        """Hear of ends, and hand over whose turn comes, until this one has ended."""
        while not part._is_done:
            ended = self._ended.get()
            self._running -= 1
            assert ended._future is not None
            try:
                outcome, error = ended._future.result(), None
            except Exception as raised:  # noqa: BLE001 - whoever asks for the result gets it
                outcome, error = None, raised
            self._finish(ended, outcome, error)
            self._hand_over()

    def _finish(self, part: Part, outcome: Any, error: BaseException | None) -> None:
        if part._is_done:
            return
        part._outcome, part._error, part._is_done = outcome, error, True
        if error is None and part._tell is not None:
            part._tell(outcome)
        for follower in part._followers:
            follower._waits -= 1
            if error is not None:
                self._finish(follower, None, error)
            elif follower._waits == 0 and not follower._is_done:
                heapq.heappush(self._ready, follower)

    def _hand_over(self) -> None:
        while self._ready and (self._at_once is None or self._running < self._at_once):
            part = heapq.heappop(self._ready)
            self._running += 1
            part._future = future = part._submit([need.future for need in part._needs])
            future.add_done_callback(partial(self._hear, part))

    def _hear(self, part: Part, future: PrefectFuture[Any]) -> None:  # noqa: ARG002 - how callbacks are called
        self._ended.put(part)
