"""What a command says of its trainings: recorded at once, handed over to MLflow by a thread of its own.

A training never waits for MLflow. Its records go to the spool (spool.py); the thread hands them over as long as the
server answers (server.py). Where it does not, they stay for the next command that tracks and reaches it. MLflow takes
seconds to import: only the thread imports it, and only where there are records.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ecdctr_spark.config import Config
from ecdctr_spark.events import without_secrets
from ecdctr_spark.storage import Root
from ecdctr_spark.tracking.spool import Record, Spool, Status, now

if TYPE_CHECKING:
    from ecdctr_spark.tracking.server import Server

Say = Callable[[str], None]
Progress = Callable[[int, float], None]  # rows trained on so far by all ranks, their mean loss

_TICK_SECONDS = 1.0
_RETRY_SECONDS = 60.0  # between attempts to reach a server that is away
_PATIENCE_SECONDS = 30.0  # that the end of a command waits for MLflow at most
_STOPPED_SECONDS = 2.0  # the same for a command that was interrupted: whoever does so kills it soon
_SHOWN = 300  # characters of an error


@contextmanager
def open_tracker(config: Config, say: Say) -> Iterator[Tracker]:
    """The tracker of a command. At its end what waits is handed over, within bounded time; what is left is said once,
    by `say`, unless the command was interrupted. Records of earlier commands are handed over too."""
    tracker = Tracker(config, say)
    try:
        yield tracker
    except Exception:
        tracker.close(_PATIENCE_SECONDS)
        raise
    except BaseException:
        tracker.stop(_STOPPED_SECONDS)
        raise
    tracker.close(_PATIENCE_SECONDS)


class Tracker:
    """The records of one command and the thread that hands them over. See `open_tracker`."""

    def __init__(self, config: Config, say: Say) -> None:
        self._config, self._say = config, say
        self._spool = Spool(Root.parse(config.storage.root).at("tracking"))
        self._lock = threading.Lock()
        self._points: dict[str, list[Record]] = defaultdict(list)  # not written yet, by model
        self._trainings: dict[str, _Training] = {}  # under way, by model
        self._closing = threading.Event()
        self._delivery = _Delivery(config, self._spool)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._monitors: list[Any] = []
        self._psutil = importlib.util.find_spec("psutil") is not None
        self._earlier = sum(segment.count for segment in self._spool.segments())
        for model in self._spool.killed():
            self.record(model, Record(time=now(), status="KILLED"))
            self._spool.release(model)
        if self._earlier:
            self._delivery.waiting = True
            self._start()

    def record(self, model: str, *records: Record) -> None:
        """Writes records of a model's run."""
        self._write(model, records)
        self._start()

    @contextmanager
    def training(self, model: str, opened: Record) -> Iterator[Progress]:
        """A training under way, by the record that opens its run. It is fed by the function that is yielded. Its run
        ends as finished, failed or killed, as the block does."""
        if self._config.tracking.system_metrics and not self._psutil:
            self._say("tracking.system_metrics: psutil is not installed, so there are none: install it, or set false")
            self._psutil = True  # said once
        training = _Training()
        self._spool.hold(model)
        with self._lock:
            self._trainings[model] = training
        self.record(model, replace(opened, status="RUNNING"))

        def progress(rows: int, loss: float) -> None:
            if training.points.due():
                point = Record(time=now(), step=rows, metrics={"loss": loss, "rows": float(rows)})
                with self._lock:
                    self._points[model].append(point)
            if training.writes.due():
                self._write(model)

        ended = Record(time=0, status="FINISHED")
        try:
            yield progress
        except BaseException as error:
            status: Status = "FAILED" if isinstance(error, Exception) else "KILLED"
            ended = Record(time=0, status=status, tags={"error": _said(error)})
            raise
        finally:
            with self._lock:
                del self._trainings[model]
            self.record(model, replace(ended, time=now()))
            self._spool.release(model)

    def stop(self, patience: float) -> None:
        """Waits up to `patience` seconds for what is handed over."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(patience)

    def close(self, patience: float) -> None:
        """Waits up to `patience` seconds for what is handed over, and for as long as it takes for a model that is being
        registered, and says what is not."""
        self.stop(patience)
        if self._thread.ident is None:
            return
        while self._delivery.registering:
            self._thread.join(_TICK_SECONDS)
        server = (
            f"MLflow at {without_secrets(self._config.tracking.uri or sqlite(Root.parse(self._config.storage.root)))}"
        )
        left = sum(segment.count for segment in self._spool.segments())
        if left:
            why = self._delivery.refused or f"it did not take all records within {patience:.0f} s"
            self._say(
                f"{server}: {why}. {left:,} records are kept in {without_secrets(str(self._spool.root))}; the next"
                " `ecdctr run`, `train` or `report` that reaches it hands them over"
            )
        elif self._earlier:
            self._say(f"{server}: {self._earlier:,} records of earlier commands were handed over")

    def _start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _write(self, model: str, records: Iterable[Record] = ()) -> None:
        with self._lock:
            if written := [*self._points.pop(model, []), *records]:
                self._spool.append(model, written)
                self._delivery.waiting = True

    def _work(self) -> None:
        """The thread. Its last turn comes after `close`."""
        closing = False
        while not closing:
            closing = self._closing.wait(_TICK_SECONDS)
            try:
                self._turn()
            except Exception as error:  # of the storage: a thread has no caller to raise it to
                self._delivery.refused = _said(error)

    def _turn(self) -> None:
        for model, training in list(self._trainings.items()):
            if training.samples.due():
                self._write(model, self._sample(training))
            if training.renewals.due():
                with self._lock:
                    if model in self._trainings:
                        self._spool.hold(model)
        self._delivery.attempt()

    def _sample(self, training: _Training) -> list[Record]:
        """The machine's figures, by the seconds of the training."""
        if not self._config.tracking.system_metrics or importlib.util.find_spec("psutil") is None:
            return []
        from ecdctr_spark.tracking.server import sampled, system_monitors

        self._monitors = self._monitors or system_monitors()
        seconds = int(time.monotonic() - training.started)
        return [Record(time=now(), step=seconds, metrics=sampled(self._monitors))]


def sqlite(root: Root) -> str:
    """A file under the root; SQLite needs a local disk, so where the root is none, in .ecdctr of the working folder."""
    folder = _local_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


class _Pace:
    """Says when something is due again: `least` seconds after it was, and later the longer it has been going on, by
    `share` of that time. So a long training has few more points, objects and requests than a short one."""

    def __init__(self, least: float, share: float = 0.0) -> None:
        self._least, self._share = least, share
        self._started = self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is due now. Then the next time counts from now."""
        clock = time.monotonic()
        if clock - self._last < max(self._least, self._share * (clock - self._started)):
            return False
        self._last = clock
        return True


class _Training:
    """The paces of a training under way."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.points = _Pace(1.0, 0.005)
        self.writes = _Pace(2.0, 0.02)
        self.samples = _Pace(2.0, 0.02)
        self.renewals = _Pace(60.0)  # of the lease


class _Delivery:
    """Hands over what waits in the spool. `refused` says why something could not be; while it is `registering` a model,
    gigabytes may be on their way."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._config, self._spool = config, spool
        self._server: Server | None = None
        self._next = 0.0
        self.waiting = self.registering = False
        self.refused = ""

    def attempt(self) -> None:
        """One attempt, unless nothing waits or the last one failed a moment ago."""
        if not self.waiting or time.monotonic() < self._next:
            return
        self.waiting, self.refused = False, ""  # what is recorded from here on counts for the next attempt
        try:
            self._server = self._server or self._found()
            self._all(self._server)
        except Exception as error:  # MLflow raises its own, its HTTP library's, its database's and its storage's
            self._server, self.refused = None, _said(error)
        if self.refused:
            self.waiting, self._next = True, time.monotonic() + _RETRY_SECONDS

    def _all(self, server: Server) -> None:
        """Segment by segment. One that is refused stays with those of its model after it; the others go on."""
        kept: set[str] = set()
        for segment in self._spool.segments():
            if segment.model in kept:
                continue
            try:
                records = segment.records()
                self.registering = any(record.served for record in records)
                if records:
                    server.hand_over(segment, records)
            except Exception as error:  # see attempt
                server.find()  # raises where the server is away: then the others would wait for it in vain
                kept.add(segment.model)
                self.refused = f"{segment.model}: {_said(error)}"
            else:
                segment.place.remove()
            finally:
                self.registering = False

    def _found(self) -> Server:
        from ecdctr_spark.tracking.server import Server

        root, tracking = Root.parse(self._config.storage.root), self._config.tracking
        uri = tracking.uri or sqlite(root)
        # A server knows a place for them; beside a file MLflow would take the working directory.
        artifacts = (_local_folder(root) / "mlflow-artifacts").as_uri() if uri.startswith("sqlite:") else None
        server = Server(
            uri=uri,
            experiment=tracking.experiment,
            root=self._spool.identity(),
            artifacts=artifacts,
            registry_uri=tracking.registry_uri,
        )
        server.find()
        return server


def _local_folder(root: Root) -> Path:
    return root.path or Path(".ecdctr").resolve()


def _said(error: BaseException) -> str:
    """An error on one line, without secrets."""
    return without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:_SHOWN]
