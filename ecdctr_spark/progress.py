"""Progress of long work: bars with rows/s and time left on a terminal, one line per finished step elsewhere, and events
(events.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from ecdctr_spark.events import LOG, event

_LOOK = 0.5  # seconds between two looks at Spark on a terminal
_REPORT = 10.0  # seconds between two events of one step


class Tasks(NamedTuple):
    """What Spark is doing: the newest job, how many tasks of all active jobs are done, and the rows that they read per
    second, 0 where that is not known."""

    job: int
    done: int
    total: int
    rows_per_second: float


Watch = Callable[[], Tasks | None]


class Update(Protocol):
    """Reports the rows of a step that are done, a note (a loss, a count), and the rows that there are, where known."""

    def __call__(self, rows: int, note: str = "", total: int | None = None) -> None: ...


def _idle() -> None:
    """Watches nothing."""


@contextmanager
def _repeated(action: Callable[[], None], pause: float | None) -> Iterator[None]:
    """Calls the action by a thread, with this pause in seconds, until the block ends; not at all without a pause."""
    if pause is None:
        yield
        return
    over = Event()

    def repeat() -> None:
        while not over.wait(pause):
            action()

    thread = Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Text(ProgressColumn):
    """Text that is cut where the terminal is narrow, so that the count and the time left beside it stay whole."""

    def __init__(self, text: Callable[[Task], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text(task), no_wrap=True, overflow="ellipsis")


class Reporter:
    """Reports a run of `steps` steps: one line per finished step and, on a terminal, a bar for the current one.

    A step that reports no rows shows what `watch` says Spark is doing.
    """

    def __init__(self, console: Console, steps: int, watch: Watch = _idle) -> None:
        self._console = console
        self._steps = steps
        self._watch = watch
        self._finished = 0
        self._shown = console.is_terminal and not console.quiet
        self._bars = Progress(
            SpinnerColumn(),
            _Text(lambda task: task.description),
            BarColumn(bar_width=20),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Text(lambda task: str(task.fields["rate"])),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._overall = self._bars.add_task("all steps", total=steps, rate="")

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:  # rich 13 ends bars that were never shown with an empty line
            self._bars.stop()

    def expect(self, more: int) -> None:
        """Sets the number of steps still to come, when the plan has changed."""
        self._steps = self._finished + more
        self._bars.update(self._overall, total=self._steps)

    @contextmanager
    def step(self, name: str) -> Iterator[Update]:
        """One step. The caller reports what is done by the function that it yields."""
        step = _Step(name, self._bars, self._bars.add_task(name, total=None, rate=""))
        event("step started", step=name, number=self._finished + 1, steps=self._steps)
        try:
            with _repeated(lambda: step.look(self._watch), self._pause):
                yield step.update
        except BaseException as error:
            seconds = round(step.seconds, 3)
            event("step failed", step=name, seconds=seconds, error=type(error).__name__)
            raise
        finally:
            self._bars.remove_task(step.bar)
        self._finished += 1
        self._bars.update(self._overall, completed=self._finished)
        step.report("step finished", number=self._finished, steps=self._steps)
        self._console.print(self._line(step), soft_wrap=True, highlight=False)

    @property
    def _pause(self) -> float | None:
        """Seconds between two looks at Spark; None where nobody would see what was found."""
        if self._shown:
            return _LOOK
        return _REPORT if LOG.isEnabledFor(logging.INFO) else None

    def _line(self, step: _Step) -> str:
        counted = f"{step.rows:>9,} rows {step.rate:>9,.0f} rows/s" if step.rows else " " * 31
        head = f"{self._finished:>3}/{self._steps}  {step.name:<34} {step.seconds:6.1f} s"
        return f"{head} {counted}  {step.note}".rstrip()


class _Step:
    """A step under way, and its bar."""

    def __init__(self, name: str, bars: Progress, bar: TaskID) -> None:
        self.name, self.bar = name, bar
        self.rows, self.note = 0, ""
        self._bars = bars
        self._started = self._reported = time.monotonic()
        self._job = -1  # Spark's newest one

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / max(self.seconds, 1e-3)

    def update(self, rows: int, note: str = "", total: int | None = None) -> None:
        """See Update."""
        if not self.rows:
            self._bars.reset(self.bar, total=total)  # what Spark did before says nothing about the time left
        self.rows, self.note = rows, note
        self._bars.update(self.bar, completed=rows, total=total, rate=f"{self.rate:,.0f} rows/s {note}")
        if self._due():
            self.report("step progress", total=total)

    def look(self, watch: Watch) -> None:
        """Shows what Spark is doing, unless the step reports its rows itself."""
        if self.rows or (tasks := watch()) is None:
            return
        if tasks.job != self._job:
            self._job = tasks.job
            self._bars.reset(self.bar, total=tasks.total)  # another job says nothing about the time left of this one
        read = f", {tasks.rows_per_second:,.0f} rows/s" if tasks.rows_per_second else ""
        rate = f"tasks of Spark's job {tasks.job}{read}"
        self._bars.update(self.bar, completed=tasks.done, total=tasks.total, rate=rate)
        if self._due():
            figures = {"seconds": round(self.seconds, 3), "rows_per_second": round(tasks.rows_per_second, 1)}
            counts = {"spark_job": tasks.job, "tasks_done": tasks.done, "tasks": tasks.total}
            event("step progress", **{"step": self.name, **figures, **counts})

    def report(self, name: str, **more: int | None) -> None:
        """Reports an event with the step's figures."""
        figures = {"rows": self.rows, "seconds": round(self.seconds, 3), "rows_per_second": round(self.rate, 1)}
        event(name, **{"step": self.name, **figures, "note": self.note, **more})

    def _due(self) -> bool:
        """Whether an event is due; then the next one is after _REPORT seconds."""
        if time.monotonic() - self._reported < _REPORT:
            return False
        self._reported = time.monotonic()
        return True
