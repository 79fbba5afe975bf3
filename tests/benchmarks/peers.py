"""The peers of bench-train, each with its own embedding, network and step: `python peers.py NAME ROWS THREADS` in the
environment of constraints/peers.txt, where nothing of the project is installed.

Each is a plain deep network on the same fields, with the optimiser that its own examples use, and its training loop
reduced to what one step does.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor
from turns import BATCH, DIMENSION, FIELDS, HIDDEN, Contestant, Workload, network, serve

NAMES = [f"f{field}" for field in range(FIELDS)]


def by_name(ids: Tensor) -> dict[str, Tensor]:
    return dict(zip(NAMES, (column.contiguous() for column in ids.unbind(1)), strict=True))


def fuxictr(workload: Workload) -> Contestant:
    """FuxiCTR's DNN as its model zoo has it: one nn.Embedding per field, dense Adam."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    features = FeatureMap("bench", "")
    features.labels, features.num_fields = ["label"], FIELDS
    kind = {"source": "", "type": "categorical", "vocab_size": workload.rows}
    features.features = OrderedDict((name, dict(kind)) for name in NAMES)

    class Dnn(BaseModel):
        def __init__(self) -> None:
            super().__init__(features, gpu=-1, verbose=0, model_root="", metrics=["AUC"])
            self.embedding = FeatureEmbedding(features, DIMENSION)
            self.mlp = MLP_Block(FIELDS * DIMENSION, list(HIDDEN), output_dim=1)
            self.compile("adam", "binary_crossentropy", 1e-3)
            self._max_gradient_norm = 10.0

        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            vectors = self.embedding(self.get_inputs(inputs), flatten_emb=True)
            return {"y_pred": self.output_activation(self.mlp(vectors))}

    model = Dnn().train()
    return Contestant(lambda ids, labels: {**by_name(ids), "label": labels}, model.train_step)


def deepctr_torch(workload: Workload) -> Contestant:
    """DeepCTR-Torch's Wide & Deep without its wide part; its loop takes ids as floats."""
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models import WDL

    columns = [SparseFeat(name, workload.rows, DIMENSION) for name in NAMES]
    model = WDL([], columns, HIDDEN, l2_reg_embedding=0.0)
    model.compile("adam", "binary_crossentropy")

    def step(batch: tuple[Tensor, Tensor]) -> None:
        predicted = model(batch[0]).squeeze(-1)
        model.optim.zero_grad()
        (model.loss_func(predicted, batch[1], reduction="sum") + model.get_regularization_loss()).backward()
        model.optim.step()

    return Contestant(lambda ids, labels: (ids.float(), labels), step)


def torch_rechub(workload: Workload) -> Contestant:
    """torch-rechub's Wide & Deep without its wide part, by its CTRTrainer's optimiser and loop."""
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.basic.layers import MLP, EmbeddingLayer

    fields = [SparseFeature(name, workload.rows, DIMENSION) for name in NAMES]
    embedding = EmbeddingLayer(fields)
    deep = MLP(FIELDS * DIMENSION, output_layer=True, dims=list(HIDDEN), dropout=0.0)
    optimiser = torch.optim.Adam([*embedding.parameters(), *deep.parameters()], lr=1e-3, weight_decay=1e-5)

    def step(batch: tuple[dict[str, Tensor], Tensor]) -> None:
        vectors = embedding(batch[0], fields, squeeze_dim=True)
        loss = F.binary_cross_entropy(torch.sigmoid(deep(vectors).squeeze(1)), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Contestant(lambda ids, labels: (by_name(ids), labels), step)


def fbgemm(workload: Workload) -> Contestant:
    """FBGEMM's table-batched embedding on the CPU with its fused exact row-wise Adagrad."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    tables = [(workload.rows, DIMENSION, EmbeddingLocation.HOST, ComputeDevice.CPU)] * FIELDS
    embedding = SplitTableBatchedEmbeddingBagsCodegen(
        tables, optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD, learning_rate=0.05, pooling_mode=PoolingMode.SUM
    )
    offsets = torch.arange(FIELDS * BATCH + 1)
    deep = network()
    optimiser = torch.optim.AdamW(deep.parameters(), lr=1e-3)

    def step(batch: tuple[Tensor, Tensor]) -> None:
        logits = deep(embedding(batch[0], offsets)).squeeze(1)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logits, batch[1]).backward()
        optimiser.step()

    return Contestant(lambda ids, labels: (ids.T.reshape(-1), labels), step)


def torchrec(workload: Workload) -> Contestant:
    """TorchRec's fused embedding bags on the CPU, row-wise Adagrad in their backward pass."""
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
    from torchrec.optim.rowwise_adagrad import RowWiseAdagrad
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    tables = [
        EmbeddingBagConfig(name=name, embedding_dim=DIMENSION, num_embeddings=workload.rows, feature_names=[name])
        for name in NAMES
    ]
    embedding = FusedEmbeddingBagCollection(
        tables,
        optimizer_type=RowWiseAdagrad,
        optimizer_kwargs={"lr": 0.05},
        device=torch.device("cpu"),
    )
    lengths = torch.ones(FIELDS * BATCH, dtype=torch.int64)
    deep = network()
    optimiser = torch.optim.AdamW(deep.parameters(), lr=1e-3)

    def step(batch: tuple[KeyedJaggedTensor, Tensor]) -> None:
        logits = deep(embedding(batch[0]).values()).squeeze(1)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logits, batch[1]).backward()
        optimiser.step()

    def prepare(ids: Tensor, labels: Tensor) -> tuple[KeyedJaggedTensor, Tensor]:
        return KeyedJaggedTensor(keys=NAMES, values=ids.T.reshape(-1), lengths=lengths), labels

    return Contestant(prepare, step)


PEERS = {
    "FuxiCTR": fuxictr,
    "DeepCTR-Torch": deepctr_torch,
    "torch-rechub": torch_rechub,
    "FBGEMM": fbgemm,
    "TorchRec": torchrec,
}

if __name__ == "__main__":
    serve(PEERS)
