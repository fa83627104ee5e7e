"""A team: threads that run one program together, and whether it gets the cores to do so."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

BUSY_SHARE = 0.8
"""A thread that ran for less than this share of a slice has had to wait for its core."""

RECHECK_SLICES = 25
"""How many slices pass before one thread or the team is given another try."""


class _Task:
    """A piece of work for a team: a function of a thread's rank."""

    def __init__(self, job: Callable[[int], None]) -> None:
        self.job = job
        self.begun = self.finished = False
        self.errors: list[BaseException] = []
        self.bell = threading.Lock()
        self.bell.acquire()

    def do(self, rank: int) -> None:
        """This rank's part."""
        try:
            self.job(rank)
        except BaseException as error:
            self.errors.append(error)


class Team:
    """Threads that run one program together.

    The caller's thread runs no part. An exception out of a signal's handler, such as Ctrl-C's,
    reaches the main thread wherever it is, and a thread that the others wait for must not be
    stopped half-way to them.
    """

    def __init__(self, size: int) -> None:
        self._jobs: list[queue.SimpleQueue[_Task | None]] = []
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wanted = size
        try:
            for rank in range(size):
                jobs: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
                threading.Thread(
                    target=self._lead if rank == 0 else self._follow,
                    args=(rank, jobs),
                    name=f"fastnn-{rank}",
                    daemon=True,
                ).start()
                self._jobs.append(jobs)
        except RuntimeError:  # no more threads to be had: fewer do the same work
            if not self._jobs:
                raise
            for surplus in self._jobs[1:]:
                surplus.put(None)
            del self._jobs[1:]
        self.size = len(self._jobs)

    def _lead(self, rank: int, jobs: queue.SimpleQueue[_Task | None]) -> None:
        """The first thread: calls the others, does its part, waits for theirs."""
        self._keep_to_core(rank)
        while (task := jobs.get()) is not None:
            if task.begun:
                continue  # handed over twice
            task.begun = True
            others = self._jobs[1:]
            for each in others:
                each.put(task)
            task.do(rank)
            for _ in others:
                self._done.get()
            task.finished = True
            task.bell.release()

    def _follow(self, rank: int, jobs: queue.SimpleQueue[_Task | None]) -> None:
        self._keep_to_core(rank)
        while (task := jobs.get()) is not None:
            task.do(rank)
            self._done.put(rank)

    def _keep_to_core(self, rank: int) -> None:
        """Keep this thread to a core of its own, where there is just one for each.

        Left to itself, the system wakes a thread on the core of the one that calls it, and takes
        many slices to notice that another core is idle (measured on Linux: 784-512-512-10 with 128
        rows 2.4 or 3.3 ms a step, by chance). Beside another process on its core a pinned thread
        is no worse off: the others are taken, too, and one thread alone is never pinned.
        """
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) == self._wanted:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, {cores[rank]})

    def run(self, job: Callable[[int], None]) -> None:
        """Call ``job(rank)`` on every thread, and wait for all, whatever is raised meanwhile."""
        task = _Task(job)
        try:
            self._wait(task)
        except BaseException:
            # A slice ends by itself in a moment, and its memory is in use until then.
            self._wait(task)
            raise
        if task.errors:
            raise task.errors[0]

    def _wait(self, task: _Task) -> None:
        interruption: BaseException | None = None
        while not task.finished:
            try:
                if not task.begun:
                    self._jobs[0].put(task)
                task.bell.acquire(timeout=1.0)
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def close(self) -> None:
        """Send the threads home."""
        for jobs in self._jobs:
            jobs.put(None)


class Contention:
    """Whether the next slice is given to the team, or done by one thread alone.

    A team that shares a core with another process is as slow as its slowest thread, and may be
    slower than one thread. Where a thread did not get its core for a fifth of a slice, one slice
    is tried alone; if it was the faster, so are those of the next half second.

    Attributes
    ----------
    alone : bool
        Whether the next slice is for one thread.
    """

    def __init__(self) -> None:
        self.alone = False
        self._rate_together = 0.0
        self._wait = 0

    def look(self, rate: float, share: float) -> None:
        """After a slice: its work in a second, and the least share of it that a thread ran."""
        self._wait -= 1
        if not self.alone:
            self._rate_together = rate
            if share < BUSY_SHARE and self._wait < 0:
                self.alone, self._wait = True, RECHECK_SLICES
        elif rate < self._rate_together:
            self.alone, self._wait = False, RECHECK_SLICES
        elif self._wait <= 0:
            self.alone = False
