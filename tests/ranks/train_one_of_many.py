"""One of the ranks of test_world.py: trains on its share of made-up batches and publishes with the others."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from msgspec.structs import replace

from ecdctr_spark.models.exchange import on_wire
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.storage import Root
from ecdctr_spark.training.checkpoint import Manifest, RestoreReport, publish
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.training.step import start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.world import World, joined
from tests.made_up import CTR_CONTRACT, TRAIN, batch, ctr_spec, part

# Batch norm sees a rank's own rows only; without it the number of ranks may change rounding, nothing else.
SPECS = {
    "ctr": ctr_spec(hidden=[], contract=replace(CTR_CONTRACT, numbers=()), memory="merged"),
    "with batch norm": ctr_spec(),
    "in two passes": ctr_spec(memory="merged"),
    "in float16": ctr_spec(memory="merged"),
}
TRAINS = {
    "in two passes": replace(TRAIN, accumulation_steps=2),
    "in float16": replace(TRAIN, wire="float16"),
}


def train_share(spec: ModelSpec, world: World, output: Path) -> None:
    """Four steps on every `size`-th row of batches of 31, then the checkpoint."""
    train = TRAINS.get(output.name, TRAIN)
    model = build(spec, on_wire(world, train.wire))
    state = start_state(model, train, world)
    batches = [part(batch(31, seed, spec.contract), slice(world.rank, None, world.size)) for seed in range(4)]
    steps, totals = fit(state, batches, lambda rows, loss: None)
    result = TrainingResult(rows=int(totals.rows), steps=steps, seconds=1.0, loss=totals.mean_loss, waiting=0.0)
    manifest = Manifest(
        model_id=output.name,
        spec=spec,
        train=train,
        how="fresh",
        ranks=world.size,
        restored=RestoreReport(),
        result=result,
    )
    publish(Root.parse(output), model, state.optimiser, manifest, world)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, chosen in SPECS.items():
        with joined(sys.argv[1]) as world:  # type: ignore[arg-type]
            train_share(chosen, world, Path(sys.argv[2]) / name)
