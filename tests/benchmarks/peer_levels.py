"""The network of a configured level made of a peer's own layers, under the peer's own step: `python peer_levels.py NAME
FILE THREADS` in the environment of constraints/peers.txt, where nothing of the project is installed. FILE is what
`levels.py save` wrote: the level's network and the very batches that its step gets. The answers are as of turns.py.

The peers have the fields, widths and layers of the level: DIN's target attention, DCN-v2's full-matrix cross network
and the MLP with batch norm, side by side, or the MLP alone for TPM. They lack the memory of snapshots, for which they
have no layer: their joined vector is narrower by it, so they do less work than the level. Where a layer cannot be made
equal, the number of its parameters that differ is given, and what remains must be those of the level.
"""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import answer

_PADDING = 0  # the first row of each table
_TRIED, _TRIED_ON = 30, 512  # steps on so many samples, after which the loss must have fallen


class Level(NamedTuple):
    """A level as levels.py describes it: the names of its ids and numbers; of each sequence of behaviours the id whose
    rows it holds; the rows of each id's table; widths; and how many dense parameters it has without its memory."""

    ids: list[str]
    numbers: list[str]
    sequences: dict[str, str]
    rows: int
    dimension: int
    hidden: list[int]
    attention_hidden: list[int]
    cross_layers: int
    dense: int

    @property
    def width(self) -> int:
        """Of the vector that enters the cross network and the MLP."""
        return (len(self.ids) + len(self.sequences)) * self.dimension + len(self.numbers)

    @property
    def of_difference(self) -> int:
        """Weights of the attention's first layer on q - k, which the level folds into those on q and on k."""
        return len(self.sequences) * sum(self.attention_hidden[:1]) * self.dimension


class Batch(NamedTuple):
    """Of each id and number [B], of each sequence [B, length]; labels [B]."""

    inputs: dict[str, Tensor]
    labels: Tensor

    def head(self, rows: int) -> Batch:
        """The first samples."""
        return Batch({name: values[:rows] for name, values in self.inputs.items()}, self.labels[:rows])


class Peer(NamedTuple):
    """`step` is one update from a batch and returns its loss; `more` is how many dense parameters the peer's layers
    have beyond the level's."""

    model: nn.Module
    step: Callable[[Batch], Tensor]
    more: int


def fuxictr(level: Level) -> Peer:
    """FuxiCTR's DIN and parallel DCN-v2 as its model zoo has them: a dense table for each field, Adam, clipped
    gradients. A number is multiplied by one weight, where the level has batch norm with two; by default FuxiCTR would
    make a vector of it, as wide as an id's."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.layers import CrossNetV2, DIN_Attention, FeatureEmbeddingDict, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    table = {"source": "", "vocab_size": level.rows, "padding_idx": _PADDING}
    features = FeatureMap("bench", "")
    features.labels, features.num_fields = ["label"], len(level.ids) + len(level.numbers) + len(level.sequences)
    features.features = OrderedDict(
        [(name, {**table, "type": "categorical"}) for name in level.ids]
        + [(name, {"source": "", "type": "numeric", "embedding_dim": 1}) for name in level.numbers]
        + [(name, {**table, "type": "sequence", "share_embedding": of}) for name, of in level.sequences.items()]
    )

    class Network(BaseModel):
        def __init__(self) -> None:
            super().__init__(features, gpu=-1, verbose=0, model_root="", metrics=["AUC"])
            self.embedding = FeatureEmbeddingDict(features, level.dimension)
            self.attentions = nn.ModuleDict(
                {name: DIN_Attention(level.dimension, level.attention_hidden) for name in level.sequences}
            )
            self.cross = CrossNetV2(level.width, level.cross_layers) if level.cross_layers else None
            self.mlp = MLP_Block(level.width, level.hidden, batch_norm=True)
            self.output = nn.Linear(level.hidden[-1] + (level.width if self.cross else 0), 1)
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()
            self._max_gradient_norm = 10.0

        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            given = self.get_inputs(inputs)
            vectors = self.embedding(given)
            for name, of in level.sequences.items():
                vectors[name] = self.attentions[name](vectors[of], vectors[name], given[name] != _PADDING)
            joined = self.embedding.dict2tensor(vectors, flatten_emb=True)
            parts = [self.cross(joined), self.mlp(joined)] if self.cross else [self.mlp(joined)]
            return {"y_pred": self.output_activation(self.output(torch.cat(parts, -1)))}

    model = Network().train()
    return Peer(
        model,
        lambda batch: model.train_step({**batch.inputs, "label": batch.labels}),
        level.of_difference - len(level.numbers),
    )


def torch_rechub(level: Level) -> Peer:
    """torch-rechub's DIN and parallel DCN-v2, by its CTRTrainer's optimiser and loop. Its attention has batch norm over
    all places of a sequence, padding too, its numbers have none, and its cross network adds the bias outside of the
    product. ReLU stands in the attention as in the level; Dice, its default, would take longer."""
    from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
    from torch_rechub.basic.layers import LR, MLP, CrossNetV2, EmbeddingLayer
    from torch_rechub.models.ranking.din import ActivationUnit

    table = {"vocab_size": level.rows, "embed_dim": level.dimension, "padding_idx": _PADDING}
    ids = [SparseFeature(name, **table) for name in level.ids]
    numbers = [DenseFeature(name) for name in level.numbers]
    histories = [
        SequenceFeature(name, **table, pooling="concat", shared_with=of) for name, of in level.sequences.items()
    ]
    places = [level.ids.index(of) for of in level.sequences.values()]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = EmbeddingLayer([*ids, *histories, *numbers])
            self.attentions = nn.ModuleList(
                ActivationUnit(level.dimension, level.attention_hidden, activation="relu") for _ in histories
            )
            self.cross = CrossNetV2(level.width, level.cross_layers) if level.cross_layers else None
            self.mlp = MLP(level.width, output_layer=False, dims=level.hidden)
            self.output = LR(level.hidden[-1] + (level.width if self.cross else 0))

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            vectors = self.embedding(inputs, ids)  # [B, ids, D]
            parts = [vectors.flatten(1)]
            if numbers:
                parts.append(self.embedding(inputs, numbers, squeeze_dim=True))
            if histories:
                behaviours = self.embedding(inputs, histories)  # [B, sequences, length, D]
                for which, (attention, place) in enumerate(zip(self.attentions, places, strict=True)):
                    parts.append(attention(behaviours[:, which], vectors[:, place]))
            joined = torch.cat(parts, 1)
            ends = [self.cross(joined), self.mlp(joined)] if self.cross else [self.mlp(joined)]
            return torch.sigmoid(self.output(torch.cat(ends, 1)).squeeze(1))

    model = Network().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)

    def step(batch: Batch) -> Tensor:
        loss = F.binary_cross_entropy(model(batch.inputs), batch.labels)
        model.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    of_norm = len(level.sequences) * 2 * sum(level.attention_hidden)
    return Peer(model, step, level.of_difference + of_norm - 2 * len(level.numbers))


PEERS = {"FuxiCTR": fuxictr, "torch-rechub": torch_rechub}


def main(name: str, file: str, threads: int) -> None:
    """Answers until standard input ends."""
    torch.set_num_threads(threads)
    answer(partial(steps, PEERS[name], file))


def steps(build: Callable[[Level], Peer], file: str) -> list[Callable[[], object]]:
    """A step on each of the batches, once the peer is found to be the network that it should be, and to learn."""
    level, batches = read(file)
    torch.manual_seed(1)
    peer = build(level)
    check_size(peer, level)
    check_learning(peer, batches[0].head(_TRIED_ON))
    return [partial(peer.step, batch) for batch in batches]


def read(file: str) -> tuple[Level, list[Batch]]:
    with np.load(file, allow_pickle=False) as stored:
        level = Level(**json.loads(str(stored["level"])))
        arrays = {name: torch.from_numpy(stored[name]) for name in ("ids", "numbers", "labels", *level.sequences)}
    batches = []
    for place, labels in enumerate(arrays["labels"]):
        ids, numbers = (arrays[kind][place].T.contiguous() for kind in ("ids", "numbers"))
        histories = {name: arrays[name][place] for name in level.sequences}
        named = zip((*level.ids, *level.numbers), (*ids, *numbers), strict=True)
        batches.append(Batch({**dict(named), **histories}, labels))
    return level, batches


def check_size(peer: Peer, level: Level) -> None:
    """The peer's tables have the level's rows, and its layers the level's parameters but for the known differences."""
    tables = sum(module.weight.numel() for module in peer.model.modules() if isinstance(module, nn.Embedding))
    dense = sum(parameter.numel() for parameter in peer.model.parameters()) - tables
    assert tables == len(level.ids) * level.rows * level.dimension, f"{tables} weights of tables"
    assert dense == level.dense + peer.more, f"{dense} dense parameters, not {level.dense} + {peer.more}"


def check_learning(peer: Peer, batch: Batch) -> None:
    """Repeated steps on one batch bring the loss below what its share of clicks alone would give."""
    losses = [peer.step(batch).item() for _ in range(_TRIED)]
    share = float(batch.labels.mean())
    guessed = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert losses[-1] < min(guessed, losses[0]), f"losses {losses} do not fall below {guessed}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
