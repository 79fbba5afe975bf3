"""make bench-device: the training step on this machine's GPU beside the network alone, and the cost of a larger table;
CPM as it is configured by the captured step (training/captured.py) and by the eager one, in turns.

The batches of the step lie in the machine's memory, as the stream brings them; the network's own lie on the GPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from typing import Literal, NamedTuple

import torch
from msgspec.structs import replace
from rich.console import Console

from ecdctr_spark.events import passed_on
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.training.captured import LEAST_STEPS, steps_of
from ecdctr_spark.training.step import Eager, start_state
from tests.benchmarks.levels import batches_of, built
from tests.benchmarks.ours import TRAIN, Deep, batch_of, floor, sharded
from tests.benchmarks.results import Result, at_least, at_most, plain, publish
from tests.benchmarks.turns import BATCH, FIELDS, Contestant, Workload

SMALL, LARGE = 1_200_000 // FIELDS, 12_000_000 // FIELDS  # rows per field
STEPS, ROUNDS, WARM_UP = 100, 5, 20
FASTER = {4096: 5.0, 32_768: 1.8}  # the captured step of CPM than the eager one, by the rows of a batch
NO_SLOWER = 1.0  # bfloat16 than float32


class Kind(NamedTuple):
    """A kind of step: how it is made, and the precision of the network."""

    by: Literal["captured", "eager"]
    precision: Literal["float32", "bfloat16"]


KINDS = (
    Kind("captured", "float32"),
    Kind("eager", "float32"),
    Kind("captured", "bfloat16"),
    Kind("eager", "bfloat16"),
)


def main() -> None:
    """Runs every contestant; exits where there is no GPU."""
    if ALONE.device.type != "cuda":
        sys.exit("bench-device: torch sees no GPU on this machine; make bench-train measures its CPU")
    console = Console(width=120)
    with passed_on(lambda name, fields: console.print(f"{name}: {fields}", markup=False)):
        half = partial(chosen, train=replace(TRAIN, precision="bfloat16"))
        alone = rate(floor, SMALL)
        found = {"1.2 M rows": rate(chosen, SMALL), "1.2 M rows, bfloat16": rate(half, SMALL)}
        found["12 M rows"] = rate(chosen, LARGE)
        found["1.2 M rows, eager"] = rate(sharded, SMALL)
        table: list[Result] = [plain("the network alone", alone, "samples/s")]
        for name, samples in found.items():
            table += [
                plain(f"step, {name}", samples, "samples/s"),
                plain(f"step, {name}", samples / alone, "of the network alone"),
            ]
        for rows, faster in FASTER.items():
            table += as_configured(rows, faster)
    publish("device", table, ["torch"], torch.cuda.get_device_name())


def chosen(workload: Workload, train: Optimisation = TRAIN) -> Contestant:
    """As `sharded`, by the step that a training chooses."""
    steps = steps_of(start_state(Deep(workload.rows, ALONE), train, ALONE), LEAST_STEPS)
    return Contestant(
        lambda ids, labels: batch_of(ids, labels, workload.rows), lambda batch: steps.make(batch, number=0)
    )


def rate(contestant: Callable[[Workload], Contestant], rows: int) -> float:
    """Samples per second, the median of the rounds."""
    workload = Workload(rows)
    prepare, step = contestant(workload)
    batches = cycle([prepare(ids, labels) for ids, labels in workload.batches()])

    def one() -> None:
        step(next(batches))

    seconds(one, WARM_UP)
    return BATCH / statistics.median(seconds(one, STEPS) for _ in range(ROUNDS))


def as_configured(rows: int, faster: float) -> list[Result]:
    """CPM by each kind of step, on trainings of their own that take turns."""
    steps = {kind: cpm(rows, kind) for kind in KINDS}
    for one in steps.values():
        seconds(one, WARM_UP)
    turns = [{kind: seconds(one, STEPS) for kind, one in steps.items()} for _ in range(ROUNDS)]
    times = {kind: statistics.median(turn[kind] for turn in turns) for kind in KINDS}
    of_float, of_half = (times[Kind("captured", precision)] for precision in ("float32", "bfloat16"))
    return [
        *(plain(f"CPM, {rows} rows, {by}, {precision}", times[by, precision] * 1000, "ms") for by, precision in KINDS),
        at_least(f"CPM, {rows} rows, captured", times[Kind("eager", "float32")] / of_float, "times as fast", faster),
        at_most(f"CPM, {rows} rows, captured, bfloat16", of_half / of_float, "times float32", NO_SLOWER),
    ]


def cpm(rows: int, kind: Kind) -> Callable[[], object]:
    """What makes one step of CPM as conf/movielens.yaml has it, with batches of so many rows, in turn."""
    model, spec, level = built("cpm")
    state = start_state(model, replace(level.train, batch_size=rows, precision=kind.precision), ALONE)
    steps = steps_of(state, LEAST_STEPS) if kind.by == "captured" else Eager(state)
    batches, numbers = cycle(batches_of(spec, rows)), count()
    return lambda: steps.make(next(batches), next(numbers))


def seconds(one: Callable[[], object], steps: int) -> float:
    """The seconds of one of so many steps."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        one()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
