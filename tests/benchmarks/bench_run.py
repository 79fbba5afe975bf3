"""make bench-run: the demo, one more day, and the commands on what they left, by stage: wall and CPU seconds of the
driver, the JVM, Spark's Python and the ranks.

With BEFORE=CHECKOUT, a set-up checkout of another version, both run in turn and the ratios are given.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.results import Result, plain, publish

ROOT = Path(".bench/run").resolve()
DEMO, MORE = ("2000-12-04", "2000-12-10"), ("2000-12-11", "2000-12-11")
_EVERY = 0.2  # seconds between two looks at the processes
CPM = "2000-12-11"  # a Monday after the demo, on which the weekly level is due


@dataclass
class Spent:
    """Wall seconds, and CPU seconds by role."""

    wall: float = 0.0
    cpu: Counter[str] = field(default_factory=Counter)


def main(before: str | None) -> None:
    """Benchmarks this checkout, and another one first if there is one."""
    results: list[Result] = []
    theirs = measured(Path(before), "before") if before else {}
    ours = measured(Path.cwd(), "now")
    for name, spent in ours.items():
        results += [plain(f"{name}, wall", spent.wall, "s"), plain(f"{name}, CPU", spent.cpu.total(), "s")]
        results += [plain(f"{name}, CPU of {role}", seconds, "s") for role, seconds in spent.cpu.most_common()]
        if name in theirs:
            results.append(plain(f"{name}, wall, of before", spent.wall / theirs[name].wall, "times"))
            results.append(plain(f"{name}, CPU, of before", spent.cpu.total() / theirs[name].cpu.total(), "times"))
    publish("run", results, ["pyspark", "torch"])


def measured(checkout: Path, name: str) -> dict[str, Spent]:
    """What each command of a checkout spends on a fresh root, and of runs each kind of step."""
    root = ROOT / name
    shutil.rmtree(root, ignore_errors=True)
    on = ["--conf", "movielens", "--set", f"storage.root={root}"]
    spent: dict[str, Spent] = {}
    for title, (first, last) in {"demo": DEMO, "one more day": MORE}.items():
        spent |= run(checkout, title, ["run", *on, "--from", first, "--to", last])
    spent |= run(checkout, "report", ["report", *on])
    spent |= run(checkout, "plan", ["plan", *on, "--from", MORE[0], "--to", MORE[1]])
    spent |= run(checkout, "metrics", ["metrics", *on])
    spent |= run(checkout, "train cpm", ["train", *on, "--level", "cpm", "--date", CPM])
    return spent


def run(checkout: Path, title: str, arguments: list[str]) -> dict[str, Spent]:
    """What a command spends as a whole and, where it reports steps to machines, by kind of step."""
    ecdctr, logged = checkout / ".venv/bin/ecdctr", checkout == Path.cwd() and arguments[0] == "run"
    environment = {**os.environ, "PYSPARK_PYTHON": str(checkout / ".venv/bin/python"), "PYTHONPATH": str(checkout)}
    whole, steps = Spent(), dict[str, Spent]()
    started = time.monotonic()
    command = [str(ecdctr), *arguments, *(["--json-logs"] if logged else [])]
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    watch = Watch(process.pid)
    assert process.stderr is not None
    seen, began, said = watch.cpu(), started, ""
    for line in process.stderr:
        said = line
        step = _finished(line) if logged else None
        if step:
            now, cpu = time.monotonic(), watch.cpu()
            of = steps.setdefault(f"{title}, {step}", Spent())
            of.wall, of.cpu = of.wall + now - began, of.cpu + (cpu - seen)
            seen, began = cpu, now
    if process.wait():
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}: {said}")
    whole.wall, whole.cpu = time.monotonic() - started, watch.stop()
    return {title: whole, **steps}


def _finished(line: str) -> str | None:
    """The kind of step that a line of events reports as finished."""
    event = json.loads(line) if line.startswith("{") else {}
    return str(event["step"]).split("-")[0].split(" 2")[0] if event.get("event") == "step finished" else None


class Watch:
    """The CPU seconds of a process and all that it starts, by role. What a process spends in its last moments, and one
    that lives for less than that, is not seen."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def cpu(self) -> Counter[str]:
        """CPU seconds so far."""
        by_role: Counter[str] = Counter()
        for role, seconds in list(self._seen.values()):
            by_role[role] += seconds
        return by_role

    def stop(self) -> Counter[str]:
        """CPU seconds of all, after the end."""
        self._ended.set()
        self._thread.join()
        return self.cpu()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
                    self._seen[key] = (self._role(process), times.user + times.system)  # a shell becomes a JVM
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue

    def _role(self, process: psutil.Process) -> str:
        if process == self._root:
            return "the driver"
        if process.name().startswith("java"):
            return "the JVM"
        return "Spark's Python" if "pyspark.daemon" in " ".join(process.cmdline()) else "ranks and launchers"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
