"""Checkpoints: a folder of safetensors files and a manifest, published as a whole. Nothing is ever unpickled.

manifest.json                      what the model is, how it came about, and the hash of every file
dense.safetensors                  parameters and batch-norm statistics
dense_optimiser.safetensors        Adam's state by parameter
rows-<rank>-of-<ranks>.safetensors each rank's share of every table: vectors and optimiser state
snapshots/part-<rank>.parquet      where the level keeps snapshots: index and vector of every row that was trained
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from msgspec.structs import replace
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecdctr_spark.methods.method import Optimisation, Product
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.settings.base import ConfigError, SettingError, Settings, parsed
from ecdctr_spark.storage import File, Published, Root, sealed, sha256
from ecdctr_spark.training.adamw import AdamW
from ecdctr_spark.training.job import Cursor, TrainingResult
from ecdctr_spark.training.manifests import MANIFEST, content
from ecdctr_spark.training.world import World

DENSE = "dense.safetensors"
OPTIMISER = "dense_optimiser.safetensors"
VECTORS = "snapshots"
_SNAPSHOT_SCHEMA = pa.schema([("index", pa.int32()), ("vector", pa.list_(pa.float32()))])
_CHUNK = 1 << 18  # rows of a snapshot written at a time


class RestoreReport(Settings, frozen=True):
    """Where each tensor of a model came from at its start, and which of the parent's it did not use.

    `parent` is the parent's model_id. taken_over: bit for bit; grown: the same, with rows appended; merged: computed
    from the parent's; reset: the parent has it, but the policy starts it afresh; new: the parent does not have it;
    left: only the parent has it.
    """

    parent: str | None = None
    taken_over: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class Manifest(Settings, frozen=True, kw_only=True):
    """What a model is and how it was made. `ranks` is the number of ranks that wrote the files. The checkpoint of a
    training under way has a `cursor` and the digest of its `job`, and no `result`."""

    format: Literal[2] = 2
    model_id: str
    spec: ModelSpec
    train: Optimisation
    how: str
    keeps: tuple[Product, ...] = ()
    ranks: int
    restored: RestoreReport
    result: TrainingResult | None = None
    job: str | None = None
    cursor: Cursor | None = None
    files: Mapping[str, File] = {}


def publish(root: Root, model: nn.Module, optimiser: AdamW, manifest: Manifest, world: World) -> None:
    """Publishes the model as the folder `root`, replacing the one that is there.

    All ranks call it together, each with its share of the tables. `manifest.files` is filled in here.
    """
    draft = root.draft(MANIFEST)
    if world.rank == 0:
        draft.begin()
    world.barrier()
    if world.rank == 0:
        with draft.writing(DENSE) as path:
            save_file(dense_tensors(model), path)
        with draft.writing(OPTIMISER) as path:
            save_file(optimiser.tensors(), path)
    with draft.writing(_rows_file(world.rank, world.size)) as path:
        save_file(row_tensors(model), path)
    if "snapshot" in manifest.keeps and manifest.cursor is None:
        with draft.writing(f"{VECTORS}/part-{world.rank}.parquet") as path:
            _write_snapshot(model, path)
    world.barrier()
    if world.rank == 0:
        complete = replace(manifest, files=draft.files())
        draft.publish(sealed(complete))
    world.barrier()


def load(root: Root, exchange: Exchange) -> tuple[ModelSpec, nn.Module]:
    """The model of a published checkpoint; see Checkpoint.open and Checkpoint.model."""
    checkpoint = Checkpoint.open(root)
    return checkpoint.manifest.spec, checkpoint.model(exchange)


def manifest_of(root: Root) -> Manifest:
    """What a checkpoint says of itself, without a look at its files. Raises ConfigError where there is no manifest, or
    none that this version has written."""
    return _parsed(root, content(root))


class Checkpoint:
    """A published checkpoint. Its files were checked against the manifest when it was opened."""

    def __init__(self, root: Root, manifest: Manifest, identity: str) -> None:
        self.root, self.manifest, self.identity = root, manifest, identity
        self._files = Published(root, manifest.files)

    @classmethod
    def open(cls, root: Root) -> Checkpoint:
        """Reads the manifest and checks every file against it. Raises ConfigError that names the file at fault."""
        manifest = content(root)
        checkpoint = cls(root, _parsed(root, manifest), sha256(manifest))
        checkpoint._files.check()
        return checkpoint

    def model(self, exchange: Exchange) -> nn.Module:
        """The model, on any number of ranks, however many wrote it. Raises ConfigError where a file does not fit the
        spec."""
        model = build(self.manifest.spec, exchange)
        dense, stored = dense_tensors(model), self.tensors(DENSE)
        self.require(stored, dense)
        for name, tensor in dense.items():
            tensor.copy_(stored[name])
        for name, tensor in row_tensors(model).items():
            tensor.copy_(self.rows(name, exchange))
        return model

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of the manifest's files by name. Raises ConfigError where it cannot be read."""
        self._listed(name)
        try:
            return load_file(self._files.local(name))
        except SafetensorError as error:
            raise ConfigError(
                f"checkpoint {self.root.at(name)}: not a safetensors file ({error}); train it again"
            ) from error

    def rows(self, name: str, exchange: Exchange) -> Tensor:
        """The share of `exchange.rank` among `exchange.size` ranks of a row tensor, [local rows, ...].

        Raises ConfigError where a file lacks it.
        """
        writers = self.manifest.ranks
        mine = torch.arange(exchange.rank, self.manifest.spec.rows, exchange.size)
        owned = [mine[mine % writers == writer] for writer in range(writers)]
        # One share is in memory at a time. With as many ranks as wrote it, a rank reads only its own file.
        shares = [
            self._share(name, writer)[rows // writers]
            for writer, rows in enumerate(owned)
            if len(rows) or not len(mine)
        ]
        return torch.cat(shares)[torch.cat(owned).argsort()]

    def require(self, stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Raises ConfigError unless both hold the same names with the same shapes."""
        theirs, ours = ({name: tensor.shape for name, tensor in each.items()} for each in (stored, expected))
        wrong = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        if wrong:
            raise ConfigError(
                f"checkpoint {self.root}: {', '.join(wrong)} missing, unexpected or of another shape: "
                "train it again with the model's settings"
            )

    def _share(self, name: str, rank: int) -> Tensor:
        file = _rows_file(rank, self.manifest.ranks)
        self._listed(file)
        with safe_open(self._files.local(file), framework="pt") as tensors:
            if name not in tensors.keys():  # noqa: SIM118 - safe_open has no `in`
                raise ConfigError(f"checkpoint {self.root.at(file)}: holds no {name}; train its parent again")
            share: Tensor = tensors.get_tensor(name)
        return share

    def _listed(self, name: str) -> None:
        if name not in self.manifest.files:
            raise ConfigError(f"checkpoint {self.root}: its manifest lists no {name}; train the model again")


def _write_snapshot(model: nn.Module, path: Path) -> None:
    """Index and vector of every row of this rank that was ever trained."""
    embedding = next(module for module in model.modules() if isinstance(module, ShardedEmbedding))
    trained = embedding.state.nonzero().squeeze(1).cpu()
    rows = embedding.local_rows()
    with pq.ParquetWriter(path, _SNAPSHOT_SCHEMA) as writer:
        for chunk in torch.split(trained, _CHUNK):
            vectors = embedding.weight[chunk.to(embedding.weight.device)].cpu()
            starts = np.arange(0, vectors.numel() + 1, vectors.shape[1], dtype=np.int32)
            columns = [
                pa.array(rows[chunk].to(torch.int32).numpy()),
                pa.ListArray.from_arrays(starts, vectors.flatten().numpy()),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SNAPSHOT_SCHEMA))


def _parsed(root: Root, manifest: bytes) -> Manifest:
    try:
        return parsed(Manifest, msgspec.json.decode(manifest))
    except (msgspec.DecodeError, SettingError) as error:
        raise ConfigError(
            f"checkpoint {root.at(MANIFEST)}: {error}; not written by this version: train it again"
        ) from error


def _rows_file(rank: int, ranks: int) -> str:
    return f"rows-{rank}-of-{ranks}.safetensors"
