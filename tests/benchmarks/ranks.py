"""One of the Horovod ranks of bench-train: trains on its share of batches from memory, and rank 0 reports how fast.

`horovodrun -np N --gloo python -m tests.benchmarks.ranks ROWS STEPS together` prints samples/s of all ranks together
and the peak memory of a rank in bytes; with `apart` for `together` each rank keeps a model of its own and exchanges
nothing, which is the most that the machine's cores and memory would give.
"""

from __future__ import annotations

import resource
import sys
import time

import torch

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.step import start_state, step
from ecdctr_spark.training.world import World, joined
from tests.benchmarks.ours import TRAIN, Deep, batch_of
from tests.benchmarks.turns import BATCH, Workload

_WARM_UP = 3


def main(world: World, rows: int, steps: int, how: str) -> None:
    """`rows` per field, `steps` of the whole batch."""
    torch.set_num_threads(1)
    keep_freed_memory()
    those: World = world if how == "together" else ALONE
    state = start_state(Deep(rows, those), TRAIN, those)
    own = slice(world.rank, None, world.size)
    batches = [batch_of(ids[own], labels[own], rows) for ids, labels in Workload(rows).batches()]
    for number in range(_WARM_UP):
        step(state, batches[number], 0)
    world.barrier()
    started = time.perf_counter()
    for number in range(steps):
        step(state, batches[number % len(batches)], 0)
    world.barrier()
    if world.rank == 0:
        rate = steps * BATCH / (time.perf_counter() - started)
        sys.stdout.write(f"rates {rate} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


if __name__ == "__main__":
    with joined("horovod") as ours:
        main(ours, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
