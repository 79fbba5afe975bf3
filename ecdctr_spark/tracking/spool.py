"""Records on their way to MLflow: written under storage.root first, handed over when a server answers.

Each write is an object of its own, `TIME-PROCESS-COUNT-MODEL.jsonl`, one record per line: object stores and Databricks
volumes cannot append to a file, and a whole object is readable after a kill. Its last line is the SHA-256 of the
others. What was handed over is removed.

While a process trains a model it holds a lease on it. A lease whose process is gone says that the training was killed.
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from ecdctr_spark.settings.base import ConfigError, Settings
from ecdctr_spark.storage import Root, process_runs, sealed, sha256, unsealed

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

T = TypeVar("T")

_ENDING = ".jsonl"
_HASH = 65  # bytes of the last line of a segment: a SHA-256 as hex digits, and the end of the line
_FORMER_IDENTITY = re.compile(rb"[0-9a-f]{32}")
_OTHER_RUNS = "restore it, or remove it: MLflow then gets new runs for the models of this root"
_LEASE_SECONDS = 900.0  # without renewal, after which a process on another machine is taken for dead


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class DeltaInput(Settings, frozen=True):
    """A Delta table, by the URI of its place, at the version that a model was trained on."""

    name: str
    place: str
    version: int


class Column(Settings, frozen=True):
    """An input of an exported model. The example of a binary column is a number of zero bytes."""

    name: str
    kind: Literal["integer", "float", "binary"]
    example: int


class Served(Settings, frozen=True):
    """An export that is to become a version of a registered model: where it is, its hash, and the module whose
    `_load_pyfunc` opens it."""

    registered_model: str
    place: str
    sha256: str
    loader: str
    columns: tuple[Column, ...]


class Record(Settings, frozen=True, omit_defaults=True):
    """What is to be said of the MLflow run of a model. `time` is in ms since 1970; metrics are those of `step`;
    `artifacts` are places by the name that their file gets."""

    time: int
    step: int = 0
    status: Status | None = None
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    metrics: Mapping[str, float] = {}
    inputs: tuple[DeltaInput, ...] = ()
    artifacts: Mapping[str, str] = {}
    served: Served | None = None

    @property
    def eventful(self) -> bool:
        """Whether it says more than metrics, parameters and tags."""
        return bool(self.status or self.inputs or self.artifacts or self.served)


class Lease(Settings, frozen=True):
    """Which process trains a model, and when it last said so, in seconds since 1970."""

    host: str
    process: int
    renewed: float

    @property
    def holds(self) -> bool:
        """Whether its process may still be training."""
        if time.time() - self.renewed > _LEASE_SECONDS:
            return False
        return self.host != socket.gethostname() or (self.process != os.getpid() and process_runs(self.process))


@dataclass(frozen=True)
class Segment:
    """An object of the spool: records of the MLflow run of one model, written together."""

    place: Root

    @property
    def name(self) -> str:
        """Unique in the spool, and ordered by time."""
        return self.place.name.removesuffix(_ENDING)

    @property
    def model(self) -> str:
        """The model_id."""
        return self.name.split("-", 3)[3]

    @property
    def count(self) -> int:
        """The number of its records."""
        return int(self.name.split("-", 3)[2])

    def records(self) -> list[Record]:
        """Its records; none where another process has handed it over meanwhile. Raises ConfigError where it is damaged.
        One of a former version has no hash."""
        try:
            content = self.place.read_bytes()
        except FileNotFoundError:
            return []
        body, hashed = content[:-_HASH], content[-_HASH:] == _hash(content[:-_HASH])
        try:
            records = [msgspec.json.decode(line, type=Record) for line in (body if hashed else content).splitlines()]
        except (msgspec.DecodeError, UnicodeDecodeError):
            records = []
        if len(records) != self.count:
            raise ConfigError(f"{self.place}: damaged: restore it, or remove it: MLflow then lacks these records")
        return records


@dataclass(frozen=True)
class Spool:
    """The spool of a storage root, at its folder `tracking`."""

    root: Root

    def append(self, model: str, records: Sequence[Record]) -> None:
        """Writes records of a model's run as one segment."""
        name = f"{time.time_ns():020d}-{os.getpid()}-{len(records)}-{model}{_ENDING}"
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        self.root.at("records", name).write_bytes(lines + _hash(lines))

    def segments(self) -> list[Segment]:
        """What waits to be handed over, the oldest first, without models that another process trains."""
        places = [place for place in self.root.at("records").list() if place.name.endswith(_ENDING)]
        found = [Segment(place) for place in places]
        others = {model for model in {segment.model for segment in found} if self._lease(model)}
        return [segment for segment in found if segment.model not in others]

    def hold(self, model: str) -> None:
        """Takes or renews this process's lease on a model."""
        lease = Lease(host=socket.gethostname(), process=os.getpid(), renewed=time.time())
        self._leases.at(f"{model}.json").write_bytes(sealed(lease))

    def release(self, model: str) -> None:
        """Gives the lease back."""
        self._leases.at(f"{model}.json").remove()

    def killed(self) -> list[str]:
        """The models whose training was killed: there is a lease, and no process holds it."""
        models = [place.name.removesuffix(".json") for place in self._leases.list()]
        return [model for model in models if not self._lease(model)]

    def identity(self) -> str:
        """A name of this storage root that stays when it is moved, so that two roots on one server are kept apart.
        Raises ConfigError where its file is damaged."""
        place = self.root.at("root_id")
        if not place.exists():
            place.write_bytes(sealed(_Identity(id=uuid.uuid4().hex)))
        content = unsealed(place, _OTHER_RUNS)
        if _FORMER_IDENTITY.fullmatch(content):
            return content.decode()
        return _decoded(content, _Identity, place, _OTHER_RUNS).id

    @property
    def _leases(self) -> Root:
        return self.root.at("training")

    def _lease(self, model: str) -> Lease | None:
        """The lease of another living process on a model. Raises ConfigError where it is damaged."""
        place, advice = self._leases.at(f"{model}.json"), f"remove it, unless {model} is being trained"
        try:
            lease = _decoded(unsealed(place, advice), Lease, place, advice)
        except FileNotFoundError:
            return None
        return lease if lease.holds else None


class _Identity(Settings, frozen=True):
    id: str


def _decoded(content: bytes, kind: type[T], place: Root, advice: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{place}: damaged ({error}); {advice}") from error


def _hash(body: bytes) -> bytes:
    return f"{sha256(body)}\n".encode()
