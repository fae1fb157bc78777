"""Many calls of a function, in this process or in several, that can be stopped and outlive a process that dies."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

import torch


class Enough(BaseException):
    """Ends what is running from within its progress; no ``except Exception`` on the way may keep it."""


class Clock:
    """When a piece of work is to end: at its deadline, or when the user wants to stop."""

    deadline = float("inf")
    stop: Any = None
    """An event of :mod:`multiprocessing`, or None."""


def tick(done: int, total: int) -> None:  # noqa: ARG001 - a progress
    """End a piece of work when its time is up or the user wants to stop; a progress to hand to what runs."""
    if Clock.stop is not None and Clock.stop.is_set():
        raise Enough("stopped")
    if time.monotonic() > Clock.deadline:
        raise Enough("late")


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give what runs so many seconds; at its next progress :class:`Enough` ends it."""
    Clock.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        Clock.deadline = float("inf")


class Died(Exception):
    """A process died while at a piece of work, of memory for instance."""


def _worker(stop: Any) -> None:
    """Make a process ready: one thread, and Ctrl-C is for the one who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    Clock.stop = stop
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End when the process that started this one has ended, killed perhaps, and nobody wants the work any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except Enough as end:
        return end.args[0]


class Pool:
    """Calls a function many times, in this process or in several, and yields what comes as it comes."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event() if jobs > 1 else None
        self._executor: ProcessPoolExecutor | None = None

    def stop(self) -> None:
        """Let running pieces of work end at their next progress."""
        if self._stop is not None:
            self._stop.set()

    def close(self) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        if self._executor is None:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when a worker imports torch
            self._executor = ProcessPoolExecutor(self.jobs, self._context, _worker, (self._stop,))
        return self._executor.submit(_call, function, arguments)

    def map(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Call a function; yield the arguments with the result, or with the exception.

        When a process dies, what was running is tried again one at a time; what kills its process again gives
        :class:`Died`. Ctrl-C is raised after what was running has come back.
        """
        if self.jobs == 1:
            for arguments in calls:
                try:
                    yield arguments, function(*arguments)
                except Exception as error:
                    yield arguments, error
            return
        queue, running = iter(calls), dict[Future[Any], tuple[Any, ...]]()
        suspects: list[tuple[Any, ...]] = []
        try:
            while True:
                for arguments in itertools.islice(queue, 2 * self.jobs - len(running)):
                    try:
                        running[self._submit(function, arguments)] = arguments
                    except BrokenProcessPool:  # a process died since
                        suspects.append(arguments)
                if not running and not suspects:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    arguments = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        suspects.append(arguments)
                        continue
                    except Exception as error:
                        result = error
                    yield arguments, result
                if suspects:
                    suspects += running.values()
                    running.clear()
                    yield from self._one_by_one(function, suspects)
                    suspects.clear()
        except KeyboardInterrupt:
            self.stop()
            for future, arguments in running.items():
                if not future.cancel():
                    try:
                        yield arguments, future.result()
                    except Exception as error:
                        yield arguments, error
            raise

    def _one_by_one(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        self.close()
        for arguments in calls:
            try:
                yield arguments, self._submit(function, arguments).result()
            except BrokenProcessPool:
                self.close()
                yield arguments, Died("the process died; memory may have run out")
            except Exception as error:
                yield arguments, error
