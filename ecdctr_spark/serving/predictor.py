"""An exported model in use: sample columns in, click probabilities out. Needs neither Spark nor Horovod.

An export is a folder of two files: `model.safetensors`, every tensor by its name, and `signature.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from msgspec import DecodeError, json
from safetensors.torch import load_file
from torch import nn

from ecdctr_spark.contract import Contract
from ecdctr_spark.models.batch import to_batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import ConfigError, Settings
from ecdctr_spark.storage import File, Published, Root, unsealed

WEIGHTS = "model.safetensors"
SIGNATURE = "signature.json"


class Signature(Settings, frozen=True, kw_only=True):
    """The signature of an export: its model, how to build it, the hash of the manifest of its checkpoint (`made_from`),
    and the size and hash of its weights."""

    format: Literal[2] = 2
    model_id: str
    spec: ModelSpec
    made_from: str
    weights: File


class Predictor:
    """A model that only predicts: batch norm uses its running statistics, and there are no gradients."""

    def __init__(self, signature: Signature, model: nn.Module) -> None:
        self.signature, self._model = signature, model.eval()

    @classmethod
    def open(cls, root: Root) -> Predictor:
        """The model of an export. Raises ConfigError that names a missing, damaged or outdated file."""
        signature = read_signature(root)
        files = Published(root, {WEIGHTS: signature.weights})
        files.check()
        model = build(signature.spec, ALONE)
        model.load_state_dict(load_file(files.local(WEIGHTS)), assign=True)
        return cls(signature, model)

    @torch.inference_mode()
    def predict(self, columns: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Click probabilities, float32 [rows], from sample columns of equal length (see `inputs`).

        Raises ConfigError that names a missing column, RuntimeError where a prediction is not finite.
        """
        contract = self.signature.spec.contract
        missing = [name for name in inputs(contract) if name not in columns]
        if missing:
            raise ConfigError(f"model {self.signature.model_id}: the input lacks the columns {', '.join(missing)}")
        batch = to_batch({name: columns[name] for name in inputs(contract)}, contract)
        predictions: np.ndarray[Any, np.dtype[np.float32]] = torch.sigmoid(self._model(batch)).numpy()
        if not np.isfinite(predictions).all():
            raise RuntimeError(f"model {self.signature.model_id}: a prediction is not finite; it cannot be served")
        return predictions


def inputs(contract: Contract) -> tuple[str, ...]:
    """The sample columns that a prediction needs: those of training without label and weight."""
    return contract.inputs


def read_signature(root: Root) -> Signature:
    """The signature of an export. Raises ConfigError where it is missing or of another version."""
    path = root.at(SIGNATURE)
    if not path.exists():
        raise ConfigError(f"export {root}: no {SIGNATURE}; expected a folder that `ecdctr export` wrote")
    try:
        return json.decode(unsealed(path), type=Signature)
    except DecodeError as error:
        raise ConfigError(f"export {path}: it was not written by this version; export the model again") from error
