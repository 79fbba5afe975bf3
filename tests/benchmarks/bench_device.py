"""make bench-device: the training step on this machine's GPU beside the network alone, and the cost of a larger table.

The batches of the step lie in the machine's memory, as the stream brings them; the network's own lie on the GPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

import torch
from msgspec.structs import replace

from ecdctr_spark.models.exchange import ALONE
from tests.benchmarks.ours import TRAIN, floor, sharded
from tests.benchmarks.results import Result, plain, publish
from tests.benchmarks.turns import BATCH, FIELDS, Contestant, Workload

SMALL, LARGE = 1_200_000 // FIELDS, 12_000_000 // FIELDS  # rows per field
STEPS, ROUNDS, WARM_UP = 100, 5, 20


def main() -> None:
    """Runs every contestant, one after another; exits where there is no GPU."""
    if ALONE.device.type != "cuda":
        sys.exit("bench-device: torch sees no GPU on this machine; make bench-train measures its CPU")
    half = partial(sharded, train=replace(TRAIN, precision="bfloat16"))
    alone = rate(floor, SMALL)
    found = {"1.2 M rows": rate(sharded, SMALL), "1.2 M rows, bfloat16": rate(half, SMALL)}
    found["12 M rows"] = rate(sharded, LARGE)
    table: list[Result] = [plain("the network alone", alone, "samples/s")]
    for name, samples in found.items():
        table += [
            plain(f"step, {name}", samples, "samples/s"),
            plain(f"step, {name}", samples / alone, "of the network alone"),
        ]
    publish("device", table, ["torch"], torch.cuda.get_device_name())


def rate(contestant: Callable[[Workload], Contestant], rows: int) -> float:
    """Samples per second, the median of the rounds."""
    workload = Workload(rows)
    prepare, step = contestant(workload)
    batches = cycle([prepare(ids, labels) for ids, labels in workload.batches()])

    def seconds(steps: int) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for batch in islice(batches, steps):
            step(batch)
        torch.cuda.synchronize()
        return time.perf_counter() - started

    seconds(WARM_UP)
    return STEPS * BATCH / statistics.median(seconds(STEPS) for _ in range(ROUNDS))


if __name__ == "__main__":
    main()
