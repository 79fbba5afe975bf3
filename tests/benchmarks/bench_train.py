"""make bench-train: the training step beside the peers', and so the configured levels; streaming, ranks, bytes, memory.

With BEFORE=CHECKOUT, a set-up checkout of another version (since 881c535), the levels' steps are compared with that
one's.
The contestants live in processes of their own and take turns, so that what the machine does besides hits all alike.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from petastorm import make_batch_reader
from torch.profiler import ProfilerActivity, profile

from ecdctr_spark.config import load_config
from ecdctr_spark.contract import Contract, Sequence
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.streaming.batches import Stream
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.job import WorldKind
from ecdctr_spark.training.step import start_state, step
from tests.benchmarks.exchanged import gathered, measured, worked_out
from tests.benchmarks.ours import TRAIN, WITH_FBGEMM, Deep, batch_of, sharded
from tests.benchmarks.results import Result, at_least, at_most, plain, publish
from tests.benchmarks.turns import BATCH, DIMENSION, FIELDS, Workload

WORK = Path(".bench/train")
PEERS_PYTHON = Path(".bench/peers/bin/python")
PEERS = ("FBGEMM", "TorchRec", "FuxiCTR", "DeepCTR-Torch", "torch-rechub")
THREADS, ROUNDS, WARM_UP = 2, 5, 2
SMALL, LARGE = 1_200_000 // FIELDS, 12_000_000 // FIELDS  # rows per field
STEPS = {"ecdctr_spark": 10, "floor": 20, "FBGEMM": 10, "TorchRec": 10, "FuxiCTR": 3}  # per turn; else 2
LEVELS, PEER_LEVELS, WHOLE_BATCH = "tests/benchmarks/levels.py", "tests/benchmarks/peer_levels.py", 4096
WORLDS: tuple[WorldKind, ...] = ("horovod", "torch")
DEMO_BATCH = 512
FASTER = {("cpm", 4096, 1): 1.6, ("cpm", 512, 1): 2.5}  # by level, batch and threads, than commit 881c535
AHEAD = {("cpm", 4096, "FuxiCTR"): 3}  # by level, batch and peer, with one thread each
NETWORKS = {"tpm": "MLP", "cpm": "DIN + DCN-v2", "actr": "DIN + DCN-v2"}  # as the peers call them
FILES, FILE_ROWS, LENGTH = 40, 16384, 50
_PARTS = {
    "matrix products": ("mm", "addmm"),
    "rows read and summed": ("_embedding_bag_forward_only", "index_select"),
    "rows written": ("index_copy_",),
    "rows sorted and grouped": ("sort", "nonzero", "index", "ne"),
}


class Rate(NamedTuple):
    """Samples per second, the median of the rounds, and peak memory in bytes."""

    samples: float
    peak: float


def main(before: str | None) -> None:
    """Every part of the table. Raises SystemExit at once where the other checkout cannot take its part."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    if before and subprocess.run([*of_before(before), "tpm", "1", "1"], stdin=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{before}: cannot run {LEVELS}: it must be set up, and a version since 881c535")
    small = compete(SMALL, ["floor", "ecdctr_spark", WITH_FBGEMM, *PEERS])
    large = compete(LARGE, ["ecdctr_spark", "FuxiCTR", "FBGEMM"])
    rows = [*steps(small, large), *profiled(), *as_configured(before), *input_(), *ranks(), *ranks_of_cpm(), *bytes_()]
    publish("train", rows, ["torch", "horovod", "petastorm"])
    shutil.rmtree(WORK)


def compete(rows: int, names: Iterable[str]) -> dict[str, Rate]:
    """The rate of each contestant, in turns."""
    with contestants(rows, names) as processes:
        for process in processes.values():
            turn(process, WARM_UP)
        turns: dict[str, list[Rate]] = {name: [] for name in processes}
        for _ in range(ROUNDS):
            for name, process in processes.items():
                turns[name].append(turn(process, STEPS.get(name, 2)))
    return {
        name: Rate(statistics.median(rate.samples for rate in rates), max(rate.peak for rate in rates))
        for name, rates in turns.items()
    }


@contextmanager
def contestants(rows: int, names: Iterable[str]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One process each, all with the same number of threads."""
    ours = [sys.executable, "-m", "tests.benchmarks.ours"]
    theirs = [str(PEERS_PYTHON), "tests/benchmarks/peers.py"]
    own = ("ecdctr_spark", WITH_FBGEMM, "floor")
    with started(
        {name: [*(ours if name in own else theirs), name, str(rows), str(THREADS)] for name in names}
    ) as processes:
        yield processes


@contextmanager
def started(commands: Mapping[str, list[str]]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A process of each command, ended afterwards."""
    started = {}
    try:
        for name, command in commands.items():
            log = (WORK / f"{name}.log").open("a")
            started[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def turn(process: subprocess.Popen[str], steps: int) -> Rate:
    """Runs `steps` steps of a contestant."""
    seconds, peak = spent(process, steps)
    return Rate(steps * BATCH / seconds, peak)


def spent(process: subprocess.Popen[str], steps: int) -> tuple[float, float]:
    """The seconds of `steps` steps of a contestant, and its peak memory in bytes."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"{process.args!r} ended: see its log in {WORK}"
    seconds, peak = answer.split()
    return float(seconds), float(peak)


def steps(small: dict[str, Rate], large: dict[str, Rate]) -> list[Result]:
    """The step in memory."""
    own = small["ecdctr_spark"].samples
    rows = [plain(f"step, 1.2 M rows: {name}", rate.samples, "samples/s") for name, rate in small.items()]
    rows += [plain(f"step, 12 M rows: {name}", rate.samples, "samples/s") for name, rate in large.items()]
    return [
        *rows,
        at_least("step, 1.2 M rows", own / small["floor"].samples, "of the MLP alone", 0.7),
        at_least("step, 1.2 M rows", own / small["FuxiCTR"].samples, "times FuxiCTR", 3),
        at_least("step, 1.2 M rows", own / small["FBGEMM"].samples, "times FBGEMM", 1.15),
        at_least("step, 1.2 M rows", own / max(small[name].samples for name in PEERS), "times the fastest peer", 1),
        at_least("step, 12 M rows", large["ecdctr_spark"].samples / own, "of its rate at 1.2 M", 0.9),
        at_least("step, 12 M rows", large["ecdctr_spark"].samples / large["FuxiCTR"].samples, "times FuxiCTR", 20),
    ]


def profiled() -> list[Result]:
    """What the step's time is spent on, by torch's profiler: what no tables would cost is the share of the products."""
    torch.set_num_threads(THREADS)
    workload = Workload(SMALL)
    prepare, update = sharded(workload)
    batches = [prepare(*batch) for batch in workload.batches()]
    for batch in batches[:WARM_UP]:
        update(batch)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for batch in batches:
            update(batch)
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in seen.key_averages()}
    whole = sum(spent.values())
    shares = {part: sum(spent.get(name, 0) for name in names) / whole for part, names in _PARTS.items()}
    return [plain(f"step, 1.2 M rows: {part}", share, "of its time") for part, share in shares.items()]


def as_configured(before: str | None) -> list[Result]:
    """The levels of the demo: TPM, CPM and A-CTR, at its batches and at the default of the large ones."""
    levels = load_config(["movielens"]).methods["ecdctr"].levels
    return [
        result
        for name, level in levels.items()
        for batch in (level.train.batch_size, WHOLE_BATCH)
        for threads in (1, 2)
        for result in configured((name, batch, threads), before)
    ]


def configured(case: tuple[str, int, int], before: str | None) -> list[Result]:
    """A level's step at a batch size and a number of threads, beside the matrix products of its network alone and, with
    one thread, beside its network made of peers' layers."""
    level, batch, threads = case
    arguments = [level, str(batch), str(threads)]
    commands = {what: [sys.executable, LEVELS, what, *arguments] for what in ("step", "floor")}
    if before:
        commands["before"] = [*of_before(before), *arguments]
    peers = beside(level, batch) if threads == 1 else {}
    seconds = in_turns(commands | peers, max(4, WHOLE_BATCH // batch))
    name = f"{level} as configured, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    share, goal = seconds["floor"] / seconds["step"], 0.6 if batch == WHOLE_BATCH else None
    results = [plain(name, batch / seconds["step"], "samples/s"), judged(name, share, "of its products alone", goal)]
    if before:
        results.append(judged(name, seconds["before"] / seconds["step"], "times before", FASTER.get(case)))
    for peer in peers:
        network, times = f"{peer}'s {NETWORKS[level]}", seconds[peer] / seconds["step"]
        results.append(plain(f"{name}: {network}", batch / seconds[peer], "samples/s"))
        results.append(judged(name, times, f"times {network}", AHEAD.get((level, batch, peer))))
    return results


def of_before(checkout: str) -> list[str]:
    """The command of a level's step by another checkout's package; what is missing are its arguments."""
    return ["env", f"PYTHONPATH={checkout}", f"{checkout}/.venv/bin/python", LEVELS, "step"]


def beside(level: str, batch: int) -> dict[str, list[str]]:
    """The commands of the peers that have a network like a level's, on the same batches. They lack the level's memory,
    and so have less to do."""
    file = WORK / f"{level}-{batch}.npz"
    subprocess.run([sys.executable, LEVELS, "save", level, str(batch), str(file)], check=True)
    return {peer: [str(PEERS_PYTHON), PEER_LEVELS, peer, str(file), "1"] for peer in ("FuxiCTR", "torch-rechub")}


def in_turns(commands: Mapping[str, list[str]], steps: int) -> dict[str, float]:
    """The seconds of a step of each contestant, the median of the rounds."""
    turns: dict[str, list[float]] = {name: [] for name in commands}
    with started(commands) as processes:
        for process in processes.values():
            spent(process, WARM_UP)
        for _ in range(ROUNDS):
            for name, process in processes.items():
                turns[name].append(spent(process, steps)[0] / steps)
    return {name: statistics.median(seconds) for name, seconds in turns.items()}


def judged(name: str, value: float, unit: str, goal: float | None) -> Result:
    return plain(name, value, unit) if goal is None else at_least(name, value, unit, goal)


def input_() -> list[Result]:
    """Streaming alone, and training from files beside training from memory."""
    rows, behaviours = [], Sequence(name="clicks", length=LENGTH, of="f0")
    for name, sequences in (("streaming", ()), (f"streaming, {LENGTH} behaviours", (behaviours,))):
        contract, units = written(sequences)
        found, floor = streamed(contract, units), scanned(contract, units)
        rows += [plain(name, found, "rows/s"), at_least(name, found / floor, "of a pyarrow scan", 0.8)]
        rows.append(plain(f"{name}: Petastorm alone", petastorm(contract, units) / floor, "of a pyarrow scan"))
        if not sequences:
            share = from_files(contract, units)
            rows.append(at_least("training from the files", share, "of the rate from memory", 0.85))
    return rows


def written(sequences: tuple[Sequence, ...]) -> tuple[Contract, list[Unit]]:
    """Samples as the pipeline writes them: FILES files of one row group."""
    ids = tuple(f"f{field}" for field in range(FIELDS))
    contract = Contract(ids=ids, unknown=(1,) * FIELDS, unknown_rows=1, numbers=(), sequences=sequences)
    batches, units = cycle(Workload(SMALL).batches()), []
    folder = WORK / f"samples-{len(sequences)}"
    folder.mkdir()
    for number in range(FILES):
        drawn = list(islice(batches, FILE_ROWS // BATCH))
        rows = torch.cat([batch_of(*each, SMALL).ids for each in drawn]).numpy().astype(np.int32)
        columns = {name: rows[:, place] for place, name in enumerate(ids)}
        labels = torch.cat([labels for _, labels in drawn]).numpy()
        clicks = np.random.default_rng(number).integers(0, SMALL, (FILE_ROWS, LENGTH)).astype(">i4")
        packed = {sequence.name: [row.tobytes() for row in clicks] for sequence in sequences}
        table = {**columns, **packed, "label": labels, "click_day": labels.astype(np.int32)}
        path = folder / f"part-{number}.parquet"
        pq.write_table(pa.table({**table, "weight": np.ones(FILE_ROWS, np.float32)}), path)
        units.append(Unit(path=str(path.resolve()), rows=FILE_ROWS))
    return contract, units


def stream(contract: Contract, units: list[Unit]) -> Stream:
    return Stream(units, contract, TRAIN, dt.date(2024, 1, 1))


def streamed(contract: Contract, units: list[Unit]) -> float:
    """Rows per second out of the stream, when nothing is done with them."""
    return median_rate(lambda: sum(len(batch) for batch in stream(contract, units).batches(0)))


def scanned(contract: Contract, units: list[Unit]) -> float:
    """Rows per second of the same columns by pyarrow, file after file."""
    columns = list(contract.columns)
    return median_rate(lambda: sum(len(pq.read_table(unit.path, columns=columns)) for unit in units))


def petastorm(contract: Contract, units: list[Unit]) -> float:
    """Rows per second of the same columns by Petastorm, without making batches of its row groups."""

    def read() -> int:
        urls = [f"file://{unit.path}" for unit in units]
        columns = [f"^{column}$" for column in contract.columns]
        with make_batch_reader(urls, schema_fields=columns, workers_count=1, shuffle_row_groups=False) as reader:
            return sum(len(group.label) for group in reader)

    return median_rate(read)


def from_files(contract: Contract, units: list[Unit]) -> float:
    """The rate of training from the files as a share of that from memory: the same batches, model and step, in turn."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    state = start_state(Deep(SMALL, ALONE), TRAIN, ALONE)
    held = list(stream(contract, units).batches(0))

    def trained(batches: Iterable[Batch]) -> int:
        return sum(int(step(state, batch, 0).rows) for batch in batches)

    trained(held[:WARM_UP])
    rates = [(rate(lambda: trained(stream(contract, units).batches(0))), rate(lambda: trained(held))) for _ in range(3)]
    return statistics.median(files / memory for files, memory in rates)


def ranks() -> list[Result]:
    """Two ranks beside one, and what a rank's memory grows by with the table."""
    one, two, apart = side_by_side("horovod", "deep", SMALL)
    one_large, two_large = (in_world("horovod", size, "deep", LARGE) for size in (1, 2))
    grown = (LARGE - SMALL) * FIELDS * (4 * DIMENSION + 4)  # a vector and its Adagrad state
    return [
        plain("1 rank of 1 thread", one.samples, "samples/s"),
        plain("2 ranks of 1 thread", two.samples, "samples/s"),
        at_least("2 ranks of 1 thread", two.samples / one.samples, "times 1 rank", 1.7),
        plain("2 ranks that exchange nothing", apart.samples / one.samples, "times 1 rank"),
        at_most("memory of the 1 rank, by what the table grows", (one_large.peak - one.peak) / grown, "of it", 1.1),
        at_most("memory of each of 2 ranks", (two_large.peak - two.peak) / grown, "of it", 0.55),
    ]


def ranks_of_cpm() -> list[Result]:
    """Two ranks of CPM beside one in each world, at the batch of the demo and at that of large levels."""
    results: list[Result] = []
    for world, size in product(WORLDS, (DEMO_BATCH, WHOLE_BATCH)):
        one, two, apart = side_by_side(world, "cpm", size, steps=100)
        name, faster = f"cpm, batch {size}, 2 ranks of 1 thread by {world}", two.samples / one.samples
        of_demo = size == DEMO_BATCH
        results += [
            at_least(name, faster, "times 1 rank", 1.2) if of_demo else plain(name, faster, "times 1 rank"),
            at_least(name, two.samples / apart.samples, "of 2 that exchange nothing", 0.85),
            plain(f"the same, exchanging nothing, by {world}", apart.samples / one.samples, "times 1 rank"),
        ]
    return results


def side_by_side(world: WorldKind, network: str, size: int, steps: int = 20) -> tuple[Rate, Rate, Rate]:
    """One rank, two, and two that exchange nothing (tests/benchmarks/ranks.py)."""
    return (
        in_world(world, 1, network, size, steps),
        in_world(world, 2, network, size, steps),
        in_world(world, 2, network, size, steps, "apart"),
    )


def in_world(world: WorldKind, size: int, network: str, of: int, steps: int = 20, how: str = "together") -> Rate:
    """The median of three runs of `size` ranks."""
    python = [sys.executable, "-m"]
    launchers = {
        "horovod": ["horovodrun", "-np", str(size), "--gloo", *python],
        "torch": [*python, "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m"],
    }
    command = [*launchers[world], "tests.benchmarks.ranks", network, str(of), str(steps), how, world]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    printed = [subprocess.run(command, capture_output=True, text=True, check=True, env=alone).stdout for _ in range(3)]
    lines = [next(line for line in text.splitlines() if "rates" in line).split() for text in printed]
    return Rate(statistics.median(float(line[-2]) for line in lines), max(float(line[-1]) for line in lines))


def bytes_() -> list[Result]:
    """What a rank receives in a step: measured on simulated ranks while this machine can simulate them all, and beyond
    that computed from the same batch."""
    rows = []
    for size in (2, 4, 8, 16, 32, 64):
        ours = measured(SMALL, size) if size <= 8 else worked_out(SMALL, size)
        how = "measured" if size <= 8 else "worked out"
        rows.append(plain(f"received by each of {size} ranks, {how}", ours / 1e6, "MB a step"))
        rows.append(at_most(f"received by each of {size} ranks", ours / gathered(size, BATCH), "of an all-gather", 1))
    half = measured(SMALL, 2, "float16") / measured(SMALL, 2)
    return [*rows, at_most("received by each of 2 ranks, float16", half, "of it as float32", 0.55)]


def median_rate(work: Callable[[], int]) -> float:
    return statistics.median(rate(work) for _ in range(ROUNDS))


def rate(work: Callable[[], int]) -> float:
    """Rows per second of work that returns their number."""
    started = time.perf_counter()
    rows = work()
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
