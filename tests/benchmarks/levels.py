"""The training step of a configured level from memory, or the matrix products of its network alone:
`python tests/benchmarks/levels.py step|floor LEVEL BATCH THREADS`, which answers as the contestants of turns.py do.
`python tests/benchmarks/levels.py save LEVEL BATCH FILE` writes the level and the batches of its step for its peers.

Of the project only the package is imported, so that PYTHONPATH chooses the version that is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from ecdctr_spark.config import load_config
from ecdctr_spark.contract import Contract, contract
from ecdctr_spark.methods.method import Level
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE, Exchange
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import MemorySpec, ModelSpec
from ecdctr_spark.training.allocation import keep_freed_memory
from ecdctr_spark.training.step import start_state, step

TOKENS, MONTHS = 10_000, ("april", "may", "june")  # rows of each id; those of a count are as configured
_BATCHES = 8


def main(what: str, level: str, rows: int, threads: int) -> None:
    """Answers until standard input ends."""
    from turns import answer  # beside this script; who imports `built` need not have it there

    torch.set_num_threads(threads)
    keep_freed_memory()
    answer(partial(steps if what == "step" else floor, level, rows))


def steps(name: str, rows: int) -> list[Callable[[], object]]:
    """A step on each of some batches."""
    model, spec, level = built(name)
    state = start_state(model, level.train, ALONE)
    return [partial(step, state, batch, 0) for batch in batches_of(spec, rows)]


def floor(name: str, rows: int) -> list[Callable[[], object]]:
    """The matrix products of the network's linear layers alone: forward, and backward to inputs and weights.

    A layer over behaviours has as many rows as there are in the batch, one over months as many as entities have.
    """
    model, spec, _ = built(name)
    behaviours = sum(int((sequence != 0).sum()) for sequence in batches_of(spec, rows)[0].sequences.values())
    products: list[Callable[[], Tensor]] = []
    for layer_name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        of_behaviours = layer_name.startswith("interests.") and not layer_name.endswith("of_query")
        over_months = layer_name.startswith("memory.")
        length = behaviours if of_behaviours else rows * (len(MONTHS) if over_months else 1)
        inputs, outputs = torch.randn(length, layer.in_features), torch.randn(length, layer.out_features)
        weight = layer.weight.detach()
        products += [partial(torch.mm, inputs, weight.t()), partial(torch.mm, outputs.t(), inputs)]
        if not over_months:  # these are frozen
            products.append(partial(torch.mm, outputs, weight))
    return [lambda: [product() for product in products]]


def save(name: str, rows: int, file: str) -> None:
    """The level without its memory as peer_levels.py reads it, and the batches of its step, as plain arrays.

    Each field has a table of its own there, whose first row is padding.
    """
    _, spec, _ = built(name)
    read, starts = spec.contract, dict(zip(spec.contract.ids, spec.contract.unknown, strict=True))
    alone = build(replace(spec, memory=None), ALONE)
    level = {
        "ids": read.ids,
        "numbers": read.numbers,
        "sequences": {sequence.name: sequence.of for sequence in read.sequences},
        "rows": 1 + TOKENS,
        "dimension": spec.dimension,
        "hidden": spec.network["hidden"],
        "attention_hidden": spec.network.get("attention_hidden", []),
        "cross_layers": spec.network.get("cross_layers", 0),
        "dense": sum(parameter.numel() for parameter in alone.parameters()),
    }
    batches = batches_of(spec, rows)
    arrays = {
        "ids": [batch.ids - torch.tensor(read.unknown) + 1 for batch in batches],
        "numbers": [batch.numbers for batch in batches],
        "labels": [batch.labels for batch in batches],
    }
    for sequence in read.sequences:
        histories = [batch.sequences[sequence.name] for batch in batches]
        arrays[sequence.name] = [(each - starts[sequence.of] + 1) * (each != 0) for each in histories]
    stacked = {kind: torch.stack(each) for kind, each in arrays.items()}
    wide = {kind: each if each.is_floating_point() else each.long() for kind, each in stacked.items()}
    np.savez(file, level=json.dumps(level), **{kind: each.numpy() for kind, each in wide.items()})


def built(name: str, exchange: Exchange = ALONE) -> tuple[nn.Module, ModelSpec, Level]:
    """A level of E-CDCTR as conf/movielens.yaml has it, each field with TOKENS rows, and a memory that is filled; its
    tables are shared by the ranks of the exchange."""
    config = load_config(["movielens"])
    level = config.methods["ecdctr"].levels[name]
    fields = [feature.name for feature in config.features.fields if feature.role == "index"]
    starts = {field: 1 + TOKENS * place for place, field in enumerate(fields)}
    read = contract(config.features, starts, level.reads.features)
    memory = level.memory and MemorySpec(
        pooling=level.memory.pooling, dimension=16, snapshots=MONTHS if level.memory.pooling == "attention" else ()
    )
    spec = ModelSpec(network=level.network, contract=read, rows=1 + TOKENS * len(fields), memory=memory or None)
    model = build(spec, exchange)
    if memory:
        model.memory.table.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model, spec, level


def batches_of(spec: ModelSpec, rows: int) -> list[Batch]:
    """Random batches. A field's rows are heavy-tailed as in logs; histories are of 0 to all behaviours."""
    draw = torch.Generator().manual_seed(1)
    return [_batch(spec.contract, rows, draw) for _ in range(_BATCHES)]


def _batch(read: Contract, rows: int, draw: torch.Generator) -> Batch:
    def rows_of(field: str, *shape: int) -> Tensor:
        tokens = torch.rand(*shape, generator=draw).pow(3) * TOKENS
        return tokens.int() + read.unknown[read.ids.index(field)]

    histories = {}
    for sequence in read.sequences:
        padding = torch.randint(sequence.length + 1, (rows, 1), generator=draw)
        kept = torch.arange(sequence.length) >= padding
        histories[sequence.name] = rows_of(sequence.of, rows, sequence.length) * kept
    return Batch(
        ids=torch.stack([rows_of(field, rows) for field in read.ids], 1),
        numbers=torch.rand(rows, len(read.numbers), generator=draw),
        sequences=histories,
        labels=(torch.rand(rows, generator=draw) < 0.3).float(),
        weights=torch.ones(rows),
    )


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
