"""Ranks on this machine: started once by horovodrun or torchrun, then fed jobs over a socket (launching/rank.py).

A run trains many small models: one or more for each day, and now and then a weekly or monthly one. Ranks that stay up
start only once: Python, the imports of torch and Petastorm, and the rendezvous of Horovod or torch.distributed. The
alternatives:

- A start for each training pays for it each time. Spark's launchers do so (launching/on_spark.py), for 17 to 20 s on
  two local cores: executors' slots must go back between jobs.
- Training in the driver's process needs no start, but is one rank (launcher inline), and the driver then imports torch
  beside Spark.
- A TCP port in place of a socket file would be open to other users. A password would not protect it: a launcher passes
  what it hands to its ranks on their command line, which everyone can read. The socket is in a folder that only this
  user can open.

Idle ranks sleep: they are in Horovod's world for the length of a job only (training/world.py). Their memory is not
free, so the first job starts them, and `close` ends them.

What it asks of the reader:

- A job is data (training/job.py). Nothing that a rank keeps in memory may change the next job.
- The socket is the lifeline. A rank ends when it closes, in the middle of a job too, so no rank outlives the driver.
- One failed rank fails the job, and its peers can no longer be trusted: all ranks are ended, and the next job starts
  new ones. The cause is the first error that is not a broken exchange, since that is what the peers of a dead rank see.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from ecdctr_spark.events import event
from ecdctr_spark.failures import new_log
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import own_folder
from ecdctr_spark.training.job import BROKEN_EXCHANGE, RankDiedError, TrainingJob, TrainingResult, WorldKind

Progress = Callable[[int, float], None]  # rows trained on so far by all ranks, their mean loss
Message = dict[str, Any]

_START_SECONDS = 120.0
_STOP_SECONDS = 5.0
_CAUSE_SECONDS = 2.0


class LocalRanks:
    """`ranks` processes of `threads` threads each that run `module` as a world of this kind. The first job starts them,
    `close` ends them."""

    def __init__(self, world: WorldKind, ranks: int, threads: int, module: str = "ecdctr_spark.launching.rank") -> None:
        self._world: WorldKind = world
        self._ranks = ranks
        self._threads = threads
        self._module = module
        self._group: _Group | None = None

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See launch.Ranks. `ranks` overrides the number of ranks. The error of a failed job names the log, which is
        kept."""
        group = self._started(ranks or self._ranks)
        try:
            group.gather()
            return group.train(job, progress)
        except BaseException as error:  # an interrupt too: ranks in the middle of a job are of no use for the next
            self._group = None
            group.stop()
            if not isinstance(error, RuntimeError):  # which names the log
                group.log.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Ends the ranks, and returns when those that have connected have ended."""
        if self._group is not None:
            self._group.stop()
            self._group.log.unlink(missing_ok=True)
            self._group = None

    def _started(self, size: int) -> _Group:
        """`size` ranks, which may still be starting; the running ones if there are as many."""
        if self._group is not None and self._group.size != size:
            self.close()
        if self._group is None:
            self._group = _Group(size)
            self._group.start(self._world, self._module, self._threads)
        return self._group


@dataclass
class _Connection:
    pid: int
    socket: socket.socket


@dataclass
class _Group:
    """The processes of one start."""

    size: int
    folder: Path = field(default_factory=lambda: own_folder(Path(tempfile.gettempdir())))  # a socket's path is short
    log: Path = field(default_factory=lambda: new_log("ranks"))  # what the launcher and its ranks print
    connections: dict[int, _Connection] = field(default_factory=dict)
    launcher: subprocess.Popen[bytes] | None = None
    listener: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))
    inbox: queue.Queue[tuple[int, Message | None]] = field(default_factory=queue.Queue)  # None: the rank is gone

    def start(self, world: WorldKind, module: str, threads: int) -> None:
        """Starts the ranks without waiting for them."""
        address = str(self.folder / "socket")
        self.listener.bind(address)
        self.listener.listen(self.size)
        self.listener.settimeout(0.2)
        with self.log.open("wb") as log:
            self.launcher = subprocess.Popen(
                [*_LAUNCHERS[world](self.size, self.folder), module, address, world],
                env={**_loopback(), **os.environ, "OMP_NUM_THREADS": str(threads), "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to this process, which ends the ranks in order
            )

    def gather(self) -> None:
        """Returns when all ranks have connected. Raises RuntimeError where they have not in time."""
        deadline = time.monotonic() + _START_SECONDS
        while len(self.connections) < self.size:
            try:
                self._greet(self.listener.accept()[0])
            except TimeoutError:
                if self.launcher is None or self.launcher.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the ranks did not start: {self._final_words()}") from None

    def train(self, job: TrainingJob, progress: Progress) -> TrainingResult:
        """Hands the job to every rank, waits for all results and returns that of rank 0. Raises the error of a rank
        that failed (`failure`), RankDiedError where its process ended."""
        line = msgspec.json.encode(job) + b"\n"
        for connection in self.connections.values():
            with suppress(ConnectionError):  # the rank is gone, and the inbox says so
                connection.socket.sendall(line)
        results: dict[int, TrainingResult] = {}
        while len(results) < self.size:
            rank, message = self.inbox.get()
            if message is None or "error" in message:
                raise self._cause(rank, message)
            if "progress" in message:
                progress(*message["progress"])
            elif "event" in message:
                name, fields = message["event"]
                event(name, **fields)
            else:
                results[rank] = msgspec.convert(message["result"], TrainingResult)
        return results[0]

    def stop(self) -> None:
        """Closes the sockets, which ends every rank and then the launcher; what is left is terminated, then killed."""
        self.listener.close()
        if self.launcher is not None and len(self.connections) < self.size:
            self.launcher.terminate()  # a rank that is still starting cannot connect, and ends
        for connection in self.connections.values():
            with suppress(OSError):  # gone already
                connection.socket.shutdown(socket.SHUT_RDWR)
        if self.launcher is not None and not _ends(self.launcher):
            self.launcher.terminate()
            if not _ends(self.launcher):
                for pid in (*(connection.pid for connection in self.connections.values()), self.launcher.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.launcher.wait()
        for connection in self.connections.values():
            connection.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # what is left there is no reason to fail a run

    def _cause(self, rank: int, message: Message | None) -> Exception:
        """What ended a job. A broken exchange is what a rank sees of another that died or failed. It may be reported
        first, so the other rank's own report is waited for."""
        deadline = time.monotonic() + _CAUSE_SECONDS
        while message is not None and message["error"].startswith(BROKEN_EXCHANGE):
            try:
                other, later = self.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if later is None or "error" in later:
                rank, message = other, later
        if message is None:
            return RankDiedError(f"rank {rank} died: {self._final_words(rank)}")
        return failure(f"rank {rank} failed: {message['error']}", f" (log: {self.log})")

    def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        lines = connection.makefile("r", encoding="utf-8")
        first = lines.readline()
        if not first:  # it died at once, and the launcher is about to end
            return
        hello = json.loads(first)
        self.connections[hello["rank"]] = _Connection(hello["pid"], connection)
        threading.Thread(target=self._listen, args=(hello["rank"], lines), daemon=True).start()

    def _listen(self, rank: int, lines: IO[str]) -> None:
        with lines, suppress(OSError):  # a dying rank may reset the connection: the same as its end
            for line in lines:
                self.inbox.put((rank, json.loads(line)))
        self.inbox.put((rank, None))

    def _final_words(self, rank: int | None = None) -> str:
        by = -(self.launcher.poll() or 0) if self.launcher else 0  # of a signal, unless it ended by itself or runs
        self.stop()  # the log is complete once all have ended
        words = last_words(self.log.read_text(encoding="utf-8", errors="replace"), rank)
        if by > 0:  # its ranks have said nothing of it
            words = f"their launcher was killed ({signal.Signals(by).name})"
        return f"{words} (log: {self.log})"


def _horovodrun(size: int, folder: Path) -> list[str]:
    """The beginning of the command line that starts a module in `size` ranks."""
    return [sys.executable, "-m", "horovod.runner.launch", "-np", str(size), "--gloo", sys.executable, "-m"]


def _torchrun(size: int, folder: Path) -> list[str]:
    """See _horovodrun. Ranks' lines are marked by their number in the log."""
    ours = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(size)]
    marked = ["--role", "rank", "--tee", "3", "--log-dir", str(folder / "torchrun")]
    return [sys.executable, "-m", "torch.distributed.run", *ours, *marked, "-m"]


_LAUNCHERS: dict[WorldKind, Callable[[int, Path], list[str]]] = {"horovod": _horovodrun, "torch": _torchrun}


def _loopback() -> dict[str, str]:
    """Keeps Gloo of torch.distributed on the loopback interface, as horovodrun does its own."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}


def failure(said: str, log: str = "") -> Exception:
    """The error that a rank has reported, `rank N failed: Name: text`: ConfigError where its user can act on it, else
    RuntimeError, which also says where the log is."""
    acted_on = re.match(r"rank \d+ failed: ConfigError: ", said)
    return ConfigError(said[acted_on.end() :]) if acted_on else RuntimeError(said + log)


def last_words(log: str, rank: int | None = None) -> str:
    """The end of a launcher's log on one line, for an error message: the output of the rank (of all ranks for None) and
    the signal that ended it, or the launcher's own output where there is neither."""
    who = r"\d+" if rank is None else str(rank)
    horovodrun, torchrun, signal_ = rf"\[{who}\]<std(?:out|err)>:", rf"\[rank{who}\]:", r".*(?=Signal \d+ \(SIG)"
    said = re.findall(rf"^(?:{horovodrun}|{torchrun}|{signal_})(.*)$", log, flags=re.MULTILINE)
    return f"... {' '.join(' '.join(said or [log]).split())[-500:]}"


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process ends in time."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    return process.returncode is not None
