"""One of the ranks of bench-train: trains on its share of batches from memory, and rank 0 reports how fast.

`horovodrun -np N --gloo python -m tests.benchmarks.ranks NETWORK SIZE STEPS together horovod`, or torchrun with torch,
prints samples/s of all ranks
together and the peak memory of a rank in bytes. NETWORK is `deep`, the bench's own, of SIZE rows per field, or a level
as configured, such as `cpm`, with batches of SIZE rows. With `apart` for `together` each rank keeps a model of its own
and exchanges nothing, which is the most that the machine's cores and memory would give.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import cast

import torch

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.job import WorldKind
from ecdctr_spark.training.step import TrainState, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.world import World, joined
from tests.benchmarks.levels import batches_of, built
from tests.benchmarks.ours import TRAIN, Deep, batch_of
from tests.benchmarks.turns import Workload

_WARM_UP = 3


def main(world: World, work: tuple[str, int], steps: int, how: str) -> None:
    """Steps of whole batches, of which each rank has its share."""
    torch.set_num_threads(1)
    keep_freed_memory()
    state, batches = workload(*work, world if how == "together" else ALONE)
    own = [batch.take(torch.arange(world.rank, len(batch), world.size)) for batch in batches]
    trained(state, own, _WARM_UP)
    world.barrier()
    started = time.perf_counter()
    trained(state, own, steps)
    world.barrier()
    if world.rank == 0:
        rate = steps * len(batches[0]) / (time.perf_counter() - started)
        sys.stdout.write(f"rates {rate} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


def workload(network: str, size: int, world: World) -> tuple[TrainState, list[Batch]]:
    """A network whose tables these ranks share, and whole batches for it."""
    if network == "deep":
        batches = [batch_of(ids, labels, size) for ids, labels in Workload(size).batches()]
        return start_state(Deep(size, world), TRAIN, world), batches
    model, spec, level = built(network, world)
    return start_state(model, level.train, world), batches_of(spec, size)


def trained(state: TrainState, batches: Sequence[Batch], steps: int) -> None:
    """Some steps as a training makes them."""
    fit(state, islice(cycle(batches), steps), lambda rows, loss: None)


if __name__ == "__main__":
    network, size, steps, how, kind = sys.argv[1:]
    with joined(cast(WorldKind, kind)) as ours:
        main(ours, (network, int(size)), int(steps), how)
