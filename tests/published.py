"""Checkpoints in miniature, as a training would publish them, and samples that their models read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import nn

from ecdctr_spark.contract import Contract, Sequence
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.memory import SnapshotMemory
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.storage import Root
from ecdctr_spark.training.adamw import AdamW
from ecdctr_spark.training.checkpoint import Manifest, RestoreReport, publish
from ecdctr_spark.training.job import TrainingResult
from tests.made_up import TRAIN, ctr_spec, tiny_spec

ROWS, LENGTH = 40, 3
CONTRACT = Contract(
    ids=("user_id", "item_id", "item_seen"),
    unknown=(2, 12, 24),
    unknown_rows=2,
    numbers=("item_rate",),
    sequences=(Sequence(name="recent_clicks", length=LENGTH, of="item_id"),),
)
_OWN = {"rows": ROWS, "contract": CONTRACT, "dimension": 4, "hidden": [8]}
TPM = tiny_spec(**{**_OWN, "contract": replace(CONTRACT, sequences=())})
ADS_ONLY = ctr_spec(**_OWN, attention_hidden=[4])
CPM = ctr_spec(**_OWN, attention_hidden=[4], memory="attention", months=("2024-01", "2024-02"))
ACTR = ctr_spec(**_OWN, attention_hidden=[4], memory="merged")


def publish_model(folder: Path | Root, spec: ModelSpec, model_id: str = "model-1") -> nn.Module:
    """Publishes a model whose every tensor looks trained, and returns it ready to predict."""
    model = build(spec, ALONE)
    chance = torch.Generator().manual_seed(5)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            uniform = torch.rand(tensor.shape, generator=chance)
            tensor.copy_(uniform + 0.5 if name.endswith("running_var") else uniform - 0.5)
    if isinstance(memory := getattr(model, "memory", None), SnapshotMemory):
        memory.table.weight[:, -1] = (torch.arange(ROWS) >= 12).float()  # rows from 12 on are items
    optimiser = AdamW(model, weight_decay=0.0)
    manifest = Manifest(
        model_id=model_id,
        spec=spec,
        train=TRAIN,
        how="fresh",
        ranks=1,
        restored=RestoreReport(),
        result=TrainingResult(rows=8, steps=1, seconds=1.0, loss=0.5, waiting=0.0),
    )
    publish(Root.parse(folder), model, optimiser, manifest, ALONE)
    return model.eval()


def sample_columns(rows: int = 16) -> dict[str, Any]:
    """Encoded features of samples; some items are newer than the models (index >= ROWS)."""
    chance = np.random.default_rng(7)
    behaviours = chance.integers(12, 24, size=(rows, LENGTH)).astype(">i4")
    behaviours[:, 0] = 0  # padding
    return {
        "user_id": chance.integers(2, 12, rows).astype(np.int32),
        "item_id": chance.integers(12, ROWS + 4, rows).astype(np.int32),
        "item_seen": chance.integers(24, 30, rows).astype(np.int32),
        "item_rate": chance.random(rows, dtype=np.float32),
        "recent_clicks": [row.tobytes() for row in behaviours],
    }
