"""Flips bits in files that the project reads back: each flip is found, by an error that names the file, or changes
nothing that is read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from ecdctr_spark import failures
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.pages import opened
from ecdctr_spark.serving.export import export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.batches import reading as reader_of
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import TABLES
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.training.checkpoint import Checkpoint
from tests.chaos.runs import shares

Read = Callable[[Path], object]
_SMALL = ("models", "metrics", "steps")


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
    """Every kind of files under a root that is read back."""
    tables = {log.parent for log in root.rglob("_delta_log")}
    of_spark = [table for table in tables if (root / "tables") not in table.parents]
    snapshots = [table for table in tables if table.name == "snapshots"]
    samples = [table for table in tables if table.name == "samples"]
    models = [model for model in (root / "models").iterdir() if model.is_dir() and "." not in model.name]
    exported = root.parent / "exported"
    export(Root.parse(min(models)), Root.parse(exported))
    return [
        Kind("samples, read by ranks", _parquet(samples), _streamed(_parquet(samples)[0])),
        Kind("snapshots, read by ranks", _parquet(snapshots), _vectors),
        Kind("tables, read by Spark", _parquet(of_spark), lambda file: _by_spark(spark, file)),
        Kind("small tables", _parquet([root / "tables" / name for name in _SMALL]), lambda file: _small(root, file)),
        Kind("logs of tables", [log for table in of_spark for log in _logs(table)], _listed),
        Kind("logs of small tables", [log for name in _SMALL for log in _logs(root / "tables" / name)],
             lambda file: _small(root, file.parent)),
        Kind("checkpoints", [file for model in models for file in sorted(model.glob("*.*"))], _checkpoint),
        Kind("exports", sorted(exported.iterdir()), _exported),
    ]  # fmt: skip


def _flipped(kind: Kind, number: int, chance: random.Random) -> Flips:
    found, without_effect, unseen = 0, 0, list[str]()
    for _ in range(number):
        file = chance.choice(kind.files)
        written, before = file.read_bytes(), kind.read(file)
        bit, damaged = chance.randrange(8 * len(written)), bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(damaged))
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


def _parquet(tables: Sequence[Path]) -> list[Path]:
    return [file for table in sorted(tables) for file in sorted(table.rglob("*.parquet"))]


def _logs(table: Path) -> Iterator[Path]:
    yield from sorted(file for file in (table / "_delta_log").iterdir() if file.suffix in (".json", ".parquet"))


def _streamed(like: Path) -> Read:
    """Reads all columns as a training's stream does."""
    names = pq.read_schema(like).names

    def read(file: Path) -> object:
        (columns,) = reader_of("auto")([str(file)], names)
        return {name: np.asarray(columns[name]).tolist() for name in names}

    return read


def _vectors(file: Path) -> object:
    names = ["index", "vector"]
    with opened(Root.parse(file), names) as content:
        return content.read(names).to_pydict()


def _by_spark(spark: SparkSession, file: Path) -> object:
    frame = spark.read.parquet(f"file:{file}")
    return frame.agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64(*map(F.to_json, [F.struct("*")])))).collect()


def _small(root: Path, file: Path) -> object:
    name = next(name for name in _SMALL if root / "tables" / name in (file, *file.parents))
    return sorted(map(repr, read_rows(Root.parse(root), TABLES[name])))


def _listed(log: Path) -> object:
    table = Root.parse(log.parent.parent)
    return pinned.files(table, pinned.version(table), {})


def _checkpoint(file: Path) -> object:
    opened = Checkpoint.open(Root.parse(file.parent))
    return repr(opened.manifest), _tensors(opened.model(ALONE))


def _exported(file: Path) -> object:
    predictor = Predictor.open(Root.parse(file.parent))
    return repr(predictor.signature), _tensors(predictor._model)


def _tensors(model: torch.nn.Module) -> dict[str, object]:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}
