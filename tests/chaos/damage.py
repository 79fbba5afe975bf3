"""Flips bits in files that the project reads back: each flip is found, by an error that names the file, or changes
nothing that is read."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import torch
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from ecdctr_spark import failures, lease
from ecdctr_spark.lease import LEASES, Claim
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.pages import opened
from ecdctr_spark.serving.export import export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sealed
from ecdctr_spark.streaming.batches import reading as reader_of
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.log import add_sidecars
from ecdctr_spark.tables.schemas import (
    CALIBRATION,
    COMPARISONS,
    CONTENT,
    HEALTH,
    METRICS,
    MODELS,
    QUARANTINE,
    SNAPSHOTS,
    STEPS,
    TABLES,
    VOCABULARY,
)
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.tracking.spool import Record, Spool
from ecdctr_spark.training.checkpoint import Checkpoint
from tests.chaos.runs import shares
from tests.flips import with_flipped_bit

Read = Callable[[Path], object]
_SMALL = {table.name for table in (MODELS, METRICS, STEPS, COMPARISONS, CALIBRATION, CONTENT, HEALTH)}
_BY_PYARROW = {table.name for table in (SNAPSHOTS, VOCABULARY, QUARANTINE)}
_OF_SPARK = ".crc"  # the ending of what Delta on Spark keeps of a version beside its commit


class Kind(NamedTuple):
    """Files of a kind, and what they say to their reader."""

    name: str
    files: Sequence[Path]
    read: Read


class Flips(NamedTuple):
    """Of the flips in files of a kind, how many were found, by an error on one line that names the file, how many
    changed nothing, and the files and errors of the others."""

    kind: str
    found: int
    without_effect: int
    unseen: list[str]


def flipped(kinds: Sequence[Kind], number: int, seed: int = 1) -> list[Flips]:
    """Makes `number` flips, shared among the kinds, in files and at places that the seed chooses."""
    chance, done, console = random.Random(seed), list[Flips](), Console(stderr=True)
    for kind, share in zip(kinds, shares(number, len(kinds)), strict=True):
        done.append(_flipped(kind, share, chance))
        console.print(f"{kind.name}: {done[-1].found} of {share} flips found", highlight=False)
        for unseen in done[-1].unseen:
            console.print(f"UNSEEN {unseen}", highlight=False, markup=False, soft_wrap=True)
    return done


def kinds(root: Path, spark: SparkSession) -> list[Kind]:
    """Every kind of files under a root that is read back, and what a run leaves there only while it is under way."""
    tables = {log.parent for log in root.rglob("_delta_log")}
    small = {table for table in tables if table.name in _SMALL}
    for table in tables:
        DeltaTable(str(table)).create_checkpoint()
        add_sidecars(Root.parse(table))
    samples = _parquet([table for table in tables if table.name == "samples"])
    models = [model for model in (root / "models").iterdir() if model.is_dir() and "." not in model.name]
    exported = root.parent / "exported"
    export(Root.parse(min(models)), Root.parse(exported))
    return [
        Kind("samples, read by ranks", samples, _streamed(samples[0])),
        Kind("tables, read by pyarrow", _parquet([table for table in tables if table.name in _BY_PYARROW]), _rows),
        Kind("tables, read by Spark", _parquet(tables - small), lambda file: _by_spark(spark, file)),
        Kind("small tables", _parquet(small), _small),
        Kind("logs of tables", _logs(tables - small), _listed),
        Kind("logs of tables, read by Spark", _logs(tables - small, [_OF_SPARK]), lambda file: _opened(spark, file)),
        Kind("logs of small tables", _logs(small), lambda file: _small(file.parent)),
        Kind("checkpoints", [file for model in models for file in sorted(model.glob("*.*"))], _checkpoint),
        Kind("exports", sorted(exported.iterdir()), _exported),
        Kind("records for MLflow", _waiting(root.parent / "tracking"), _spooled),
        Kind("claims to the lease", _claims(root.parent / "claimed"), _claimed),
    ]


def _flipped(kind: Kind, number: int, chance: random.Random) -> Flips:
    found, without_effect, unseen = 0, 0, list[str]()
    for _ in range(number):
        file = chance.choice(kind.files)
        written, before = file.read_bytes(), kind.read(file)
        bit = chance.randrange(8 * len(written))
        file.write_bytes(with_flipped_bit(written, bit))
        try:
            if kind.read(file) == before:
                without_effect += 1
            else:
                unseen.append(f"{file}: bit {bit} was not found")
        except Exception as error:
            line, code = (str(error), 2) if isinstance(error, ConfigError) else failures.explain(error)
            if code == 2 and file.name in line:
                found += 1
            else:
                unseen.append(f"{file}: bit {bit} was found, but not named: {line}")
        finally:
            file.write_bytes(written)
    return Flips(kind.name, found, without_effect, unseen)


def _parquet(tables: Iterable[Path]) -> list[Path]:
    files = (file for table in sorted(tables) for file in sorted(table.rglob("*.parquet")))
    return [file for file in files if file.parent.name != "_delta_log"]


def _logs(tables: Iterable[Path], more: Sequence[str] = ()) -> list[Path]:
    files = (file for table in sorted(tables) for file in sorted((table / "_delta_log").glob("[!.]*")))
    return [file for file in files if file.suffix in (".json", ".parquet", *more) or file.name == "_last_checkpoint"]


def _waiting(folder: Path) -> list[Path]:
    """Records of a training under way, its lease, and the identity of the spool."""
    spool = Spool(Root.parse(folder))
    spool.append("actr-2024-03-05", [Record(time=7, step=1, metrics={"loss": 0.5}), Record(time=8, status="FINISHED")])
    spool.hold("actr-2024-03-05")
    spool.identity()
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def _claims(folder: Path) -> list[Path]:
    """The claim of a command that runs: process 1."""
    claim = Claim(command="run", user="user", host=socket.gethostname(), process=1, since="2024-03-05 00:00:00")
    place = folder / LEASES / "claim.json"
    Root.parse(place).write_bytes(sealed(claim))
    return [place]


def _streamed(like: Path) -> Read:
    """Reads all columns as a training's stream does."""
    names = pq.read_schema(like).names

    def read(file: Path) -> object:
        (columns,) = reader_of("auto")([str(file)], names)
        return {name: np.asarray(columns[name]).tolist() for name in names}

    return read


def _rows(file: Path) -> object:
    with opened(Root.parse(file)) as content:
        return content.read().to_pydict()


def _by_spark(spark: SparkSession, file: Path) -> object:
    frame = spark.read.parquet(f"file:{file}")
    return frame.agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64(*map(F.to_json, [F.struct("*")])))).collect()


def _opened(spark: SparkSession, log: Path) -> object:
    cast(Any, spark)._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    return sorted(spark.read.format("delta").load(f"file:{log.parent.parent}").inputFiles())


def _small(file: Path) -> object:
    table = next(folder for folder in file.parents if (folder / "_delta_log").exists())
    return sorted(map(repr, read_rows(Root.parse(table.parent.parent), TABLES[table.name])))


def _listed(log: Path) -> object:
    table = Root.parse(log.parent.parent)
    return pinned.files(table, pinned.version(table), {})


def _spooled(file: Path) -> object:
    spool = Spool(Root.parse(next(folder for folder in file.parents if folder.name == "tracking")))
    return [(segment.name, segment.records()) for segment in spool.segments()], spool.killed(), spool.identity()


def _claimed(claim: Path) -> object:
    """Who holds the lease, in words."""
    with patch.object(lease, "_TRIED", 0.0):
        try:
            with lease.lease(Root.parse(claim.parent.parent), "build"):
                return "no command"
        except ConfigError as refused:
            if "cannot be read" in str(refused):
                raise
            return str(refused)


def _checkpoint(file: Path) -> object:
    opened = Checkpoint.open(Root.parse(file.parent))
    return repr(opened.manifest), _tensors(opened.model(ALONE))


def _exported(file: Path) -> object:
    predictor = Predictor.open(Root.parse(file.parent))
    return repr(predictor.signature), _tensors(predictor._model)


def _tensors(model: torch.nn.Module) -> dict[str, object]:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}
