"""One rank's process: `python -m ecdctr_spark.launching.rank SOCKET WORLD`, started by horovodrun or torchrun, runs job
after job.

It talks to the driver (launching/local.py) over a socket, one line of JSON per message. It introduces itself
with {"rank", "pid"}, then answers each job with any number of {"progress": [rows, loss]} and {"event": [name, fields]}
(events.py), and one {"result"} or {"error"}.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, cast

import msgspec
import torch

from ecdctr_spark.events import passed_on
from ecdctr_spark.settings.base import plain
from ecdctr_spark.training.job import TrainingJob, TrainingResult, WorldKind
from ecdctr_spark.training.trainer import Progress, train
from ecdctr_spark.training.world import World, joined, rank_of

Train = Callable[[TrainingJob, World, Progress], TrainingResult]


def serve(train: Train, kind: WorldKind, address: str) -> None:
    """Runs the launcher's jobs by `train`, and joins the world for each. Never returns: the process ends when the
    launcher closes the socket or dies, also in the middle of a job. Nothing is left half done: what a job publishes
    appears as a whole.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        messages = connection.makefile("w", encoding="utf-8")
        jobs: queue.Queue[TrainingJob] = queue.Queue()
        threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
        _send(messages, {"rank": rank_of(kind), "pid": os.getpid()})
        while True:
            _send(messages, _answer(train, jobs.get(), kind, messages))


def train_once(job: str, threads: int, kind: WorldKind) -> str:
    """One job from and to JSON, as one of the ranks that Spark's launchers started. Events are written to stderr, the
    executor's log. So is an error, on one line: Horovod and TorchDistributor report only that something failed."""
    torch.set_num_threads(threads)
    try:
        with passed_on(_logged), joined(kind) as world:
            result = train(msgspec.json.decode(job, type=TrainingJob), world, _unreported)
        return msgspec.json.encode(result).decode()
    except Exception as error:
        sys.stderr.write(f"\nrank {rank_of(kind)} failed: {type(error).__name__}: {error}\n")
        raise


def _unreported(rows: int, loss: float) -> None:
    """Drops progress: an executor has no channel to report it."""


def _logged(name: str, fields: dict[str, Any]) -> None:
    sys.stderr.write(json.dumps({"event": name, **fields}) + "\n")


def _listen(connection: socket.socket, jobs: queue.Queue[TrainingJob]) -> None:
    """Runs in a thread, since a job may wait forever for a rank that is gone."""
    # A launcher that was killed before it had read all that this rank wrote has reset the connection.
    with suppress(ConnectionError), connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            jobs.put(msgspec.json.decode(line, type=TrainingJob))
    os._exit(0)


def _answer(train: Train, job: TrainingJob, kind: WorldKind, messages: IO[str]) -> dict[str, Any]:
    def progress(rows: int, loss: float) -> None:
        _send(messages, {"progress": [rows, loss]})

    def heard(name: str, fields: dict[str, Any]) -> None:
        _send(messages, {"event": [name, fields]})

    try:
        with passed_on(heard), joined(kind) as world:
            result = train(job, world, progress)
        return {"result": plain(result)}
    except Exception as error:  # any error must reach the launcher
        traceback.print_exc()
        sys.stderr.flush()
        return {"error": f"{type(error).__name__}: {error}"}


def _send(messages: IO[str], message: dict[str, Any]) -> None:
    try:
        messages.write(json.dumps(message) + "\n")
        messages.flush()
    except OSError:  # the launcher closed the socket, as _listen is about to find out
        os._exit(0)


if __name__ == "__main__":
    address, kind = sys.argv[1:]
    serve(train, cast(WorldKind, kind), address)
