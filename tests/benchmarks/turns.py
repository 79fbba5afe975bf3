"""One contestant of a benchmark, in a process of its own: given a number of steps, it reports how long they took.

Nothing of the project is imported here: peers run this in an environment of their own.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FIELDS, DIMENSION, HIDDEN, BATCH = 21, 16, (256, 128, 64), 8192
_BATCHES = 24


class Contestant(NamedTuple):
    """`prepare` brings a batch, ids [B, FIELDS] int64 in 0..rows-1 of each field and labels [B] float32, into the form
    in which its input arrives; that is not timed. `step` is one update from it."""

    prepare: Callable[[Tensor, Tensor], Any]
    step: Callable[[Any], object]


class Workload(NamedTuple):
    """Each field has `rows` rows."""

    rows: int

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Random batches, the same for all: a field's ids are heavy-tailed as in logs (the cube of a uniform number,
        so that a hundredth of the rows has a fifth of the traffic), a tenth is clicked."""
        draw = torch.Generator().manual_seed(1)
        ids = [(torch.rand(BATCH, FIELDS, generator=draw).pow(3) * self.rows).long() for _ in range(_BATCHES)]
        return [(each, (torch.rand(BATCH, generator=draw) < 0.1).float()) for each in ids]


def network() -> nn.Sequential:
    """[B, FIELDS * DIMENSION] -> [B, 1]."""
    widths = [FIELDS * DIMENSION, *HIDDEN]
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))


def serve(contestants: dict[str, Callable[[Workload], Contestant]]) -> None:
    """Runs `python -m MODULE NAME ROWS THREADS`: a line of standard input is a number of steps; the answer is
    the seconds that they took and this process's peak memory in bytes."""
    name, rows, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)

    def steps() -> list[Callable[[], object]]:
        workload = Workload(rows)
        prepare, step = contestants[name](workload)
        return [partial(step, prepare(ids, labels)) for ids, labels in workload.batches()]

    answer(steps)


def answer(prepare: Callable[[], list[Callable[[], object]]]) -> None:
    """Prepares the steps, of which each makes one, and then does as many as each line of standard input says, in turn.
    The answer to a line is as of `serve`."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print what they like
    steps = cycle(prepare())
    for line in sys.stdin:
        chosen = [next(steps) for _ in range(int(line))]
        started = time.perf_counter()
        for step in chosen:
            step()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(seconds, peak, file=answers, flush=True)
