"""Progress of long work: bars with rows/s and time left on a terminal, one line per finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

Update = Callable[[int, str], None]


class Reporter:
    """Reports a run of `steps` steps: one line per finished step and, on a terminal, a bar for the current one."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._finished = 0
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._overall = self._bars.add_task("all steps", total=steps, rate="")

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def expect(self, more: int) -> None:
        """Sets the number of steps still to come, when the plan has changed."""
        self._steps = self._finished + more
        self._bars.update(self._overall, total=self._steps)

    @contextmanager
    def step(self, name: str, rows: int | None = None) -> Iterator[Update]:
        """One step. The caller reports the rows done so far and a note (a loss, a count) by the function it yields."""
        started = time.monotonic()
        last: dict[str, int | str] = {"rows": 0, "note": ""}
        bar = self._bars.add_task(name, total=rows, rate="")

        def update(rows_done: int, note: str = "") -> None:
            last.update(rows=rows_done, note=note)
            rate = rows_done / max(time.monotonic() - started, 1e-3)
            self._bars.update(bar, completed=rows_done, rate=f"{rate:,.0f} rows/s {note}")

        yield update
        self._finished += 1
        self._bars.remove_task(bar)
        self._bars.update(self._overall, completed=self._finished)
        line = self._line(name, int(last["rows"]), time.monotonic() - started, str(last["note"]))
        self._console.print(line, soft_wrap=True, highlight=False)

    def _line(self, name: str, rows: int, seconds: float, note: str) -> str:
        counted = f"{rows:>9,} rows {rows / max(seconds, 1e-3):>9,.0f} rows/s" if rows else " " * 31
        return f"{self._finished:>3}/{self._steps}  {name:<34} {seconds:6.1f} s {counted}  {note}".rstrip()
