"""A small contract, models of it and batches for it: made up, for tests of models and training."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from msgspec.structs import replace
from torch import nn

from ecdctr_spark.contract import Contract
from ecdctr_spark.contract import Sequence as Behaviours
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import MemorySpec, ModelSpec
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.step import TrainState, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.world import World

_BUILDING = threading.Lock()

ROWS, LENGTH = 40, 5
USERS, ITEMS, UNKNOWN_USER, UNKNOWN_ITEM = range(4, 20), range(23, 40), 2, 21  # rows of known tokens

TINY_CONTRACT = Contract(
    ids=("user_id", "item_id"), unknown=(UNKNOWN_USER, UNKNOWN_ITEM), unknown_rows=2, numbers=(), sequences=()
)
CTR_CONTRACT = replace(
    TINY_CONTRACT, numbers=("rate",), sequences=(Behaviours(name="clicks", length=LENGTH, of="item_id"),)
)
TRAIN = Optimisation(
    batch_size=64,
    epochs=1,
    embedding_learning_rate=0.05,
    dense_learning_rate=0.01,
    weight_decay=0.0,
    gradient_clip=10.0,
    seed=1,
)


def tiny_spec(**changes: Any) -> ModelSpec:
    """A tiny model of the contract. Changes are of the spec, of the network, or `memory`, a pooling of `months`."""
    return _spec({"kind": "tiny", "hidden": [8], "contract": TINY_CONTRACT, **changes})


def ctr_spec(**changes: Any) -> ModelSpec:
    """A complete model of the contract; changes as of tiny_spec."""
    network = {"kind": "ctr", "hidden": [8, 4], "pooling": "attention", "attention_hidden": [6], "cross_layers": 1}
    return _spec({**network, "contract": CTR_CONTRACT, **changes})


def network(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The spec with other settings of its network."""
    return replace(spec, network={**spec.network, **changes})


def _spec(settings: dict[str, Any]) -> ModelSpec:
    own = {name: settings.pop(name) for name in ("contract", "rows") if name in settings}
    pooling, months = settings.pop("memory", None), settings.pop("months", ())
    memory = MemorySpec(pooling=pooling, dimension=4, snapshots=months) if pooling else None
    return ModelSpec(network={"dimension": 4, "seed": 3, **settings}, **{"rows": ROWS, **own}, memory=memory)


def built(spec: ModelSpec, world: World) -> nn.Module:
    """The untrained model, from one thread at a time: threads share the random state that it is drawn from."""
    with _BUILDING:
        return build(spec, world)


def fitted(model: nn.Module, batches: Iterable[Batch], world: World = ALONE) -> TrainState:
    """The model after one update per batch, and its optimiser."""
    state = start_state(model, TRAIN, world)
    fit(state, batches, lambda rows, loss: None)
    return state


def batch(rows: int, seed: int = 0, contract: Contract = CTR_CONTRACT) -> Batch:
    """Random samples whose clicks depend on user and item, some of weight 2; sequences are padded at the front."""
    random = torch.Generator().manual_seed(seed)
    users = torch.randint(USERS.start, USERS.stop, (rows,), generator=random)
    items = torch.randint(ITEMS.start, ITEMS.stop, (rows,), generator=random)
    clicks = torch.randint(ITEMS.start, ITEMS.stop, (rows, LENGTH), generator=random)
    clicks[torch.arange(LENGTH) < torch.randint(LENGTH + 1, (rows, 1), generator=random)] = 0
    return Batch(
        ids=torch.stack([users, items], 1),
        numbers=torch.rand(rows, len(contract.numbers), generator=random),
        sequences={sequence.name: clicks for sequence in contract.sequences},
        labels=((users + items) % 3 == 0).float(),
        weights=torch.randint(1, 3, (rows,), generator=random).float(),
    )


def part(whole: Batch, rows: Sequence[int] | slice) -> Batch:
    """Some of a batch's samples."""
    return Batch(
        ids=whole.ids[rows],
        numbers=whole.numbers[rows],
        sequences={name: sequence[rows] for name, sequence in whole.sequences.items()},
        labels=whole.labels[rows],
        weights=whole.weights[rows],
    )


def write_samples(path: Path, samples: Batch) -> Unit:
    """A file of the samples table."""
    packed = [row.numpy().astype(">i4").tobytes() for row in samples.sequences["clicks"]]
    users, items = samples.ids.numpy().astype(np.int32).T
    table = {
        "user_id": users,
        "item_id": items,
        "rate": samples.numbers[:, 0].numpy(),
        "clicks": pa.array(packed, pa.binary()),
        "label": samples.labels.numpy(),
        "click_day": np.zeros(len(samples), np.int32),
        "weight": samples.weights.numpy(),
    }
    pq.write_table(pa.table(table), path)
    return Unit(path=str(path), rows=len(samples))
