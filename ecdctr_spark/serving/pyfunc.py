"""An export as an MLflow pyfunc model: MLflow imports this module by name, and nothing is pickled.

What is measured is what is served: it is the export's own predictor, and the files are checked against their hashes.
mlflow is not imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecdctr_spark.contract import Contract
from ecdctr_spark.serving.predictor import Predictor, inputs, read_signature
from ecdctr_spark.storage import Root
from ecdctr_spark.tracking.spool import Column, Served


class Model:
    """What MLflow calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Click probabilities, float32 [rows], of a pandas frame of sample columns. There are no `params`."""
        contract = self._predictor.signature.spec.contract
        present = [name for name in inputs(contract) if name in model_input]
        return self._predictor.predict({name: model_input[name].to_numpy() for name in present})


def _load_pyfunc(path: str) -> Model:
    """The model of an export at a local path; its name is MLflow's. Raises ConfigError that names a damaged file."""
    return Model(Predictor.open(Root.parse(path)))


def served(export: Root, registered_model: str) -> Served:
    """An export as a version of a registered model is made from it."""
    signature = read_signature(export)
    return Served(
        registered_model=registered_model,
        place=str(export),
        sha256=signature.weights.sha256,
        loader=__name__,
        columns=columns(signature.spec.contract),
    )


def columns(contract: Contract) -> tuple[Column, ...]:
    """The inputs of a model; the example is of unknown tokens, zeros and no behaviours."""
    return (
        *(
            Column(name=name, kind="integer", example=row)
            for name, row in zip(contract.ids, contract.unknown, strict=True)
        ),
        *(Column(name=name, kind="float", example=0) for name in contract.numbers),
        *(Column(name=one.name, kind="binary", example=4 * one.length) for one in contract.sequences),
    )
