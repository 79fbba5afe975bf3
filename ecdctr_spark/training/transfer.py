"""What a model takes over from the one before it, by named policies, and the report of what became of each tensor.

fresh: nothing. continue: everything, optimiser state included; tables grow. from_cpm: A-CTR's start (paper, section
3.4): everything but batch norm, whose weights and statistics describe natural traffic; CPM's attention over the
snapshots is frozen into one vector an entity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ecdctr_spark.config import ConfigError
from ecdctr_spark.models.memory import SnapshotMemory
from ecdctr_spark.training.checkpoint import (
    DENSE,
    OPTIMISER,
    Checkpoint,
    RestoreReport,
    dense_tensors,
    row_tensors,
)
from ecdctr_spark.training.job import TrainingJob
from ecdctr_spark.training.world import World

Fate = Literal["taken_over", "grown", "merged", "reset", "new", "left"]  # the fields of RestoreReport

_MEMORY = "memory."
_MEMORY_TABLE = "memory.table.weight"


@dataclass(frozen=True)
class Policy:
    """`reset` are the kinds of modules that start afresh; `may_differ` are the fields of its spec in which the
    parent may differ; `optimiser` says whether the dense optimiser's state is taken over.

    The rows' Adagrad state always is: without it the first step would move every row that a few ads touch by the
    full learning rate, whatever its gradient, and wipe out what months of natural traffic had taught it.
    """

    reset: tuple[type[nn.Module], ...]
    may_differ: frozenset[str]
    optimiser: bool


POLICIES = {
    "continue": Policy(reset=(), may_differ=frozenset({"rows"}), optimiser=True),
    "from_cpm": Policy((nn.BatchNorm1d,), may_differ=frozenset({"rows", "memory", "months"}), optimiser=False),
}


@torch.no_grad()
def restore(model: nn.Module, optimiser: torch.optim.Optimizer, job: TrainingJob, world: World) -> RestoreReport:
    """Brings a freshly built model to where its training starts, by job.transfer; every tensor is in the report.

    Raises ConfigError for anything that the policy does not expect: a tensor missing, unknown or of another shape, a
    parent of another kind, a table that would shrink.
    """
    fates: dict[str, Fate] = dict.fromkeys([*dense_tensors(model), *row_tensors(model)], "new")
    if job.snapshots:
        _fill_memory(model, job)
        fates[_MEMORY_TABLE] = "taken_over"
    if job.transfer == "fresh":
        return _report(fates, parent=None)
    parent, policy = _parent(job), POLICIES[job.transfer]
    fates |= _take_dense(model, parent, policy)
    fates |= _take_rows(model, parent, job, world)
    if policy.optimiser:
        _take_optimiser(model, optimiser, parent)
    return _report(fates, parent.manifest.model_id)


@torch.no_grad()
def take_all(model: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint, world: World) -> None:
    """Everything of a checkpoint of the same model. Raises ConfigError where anything does not fit."""
    _take_dense(model, checkpoint, POLICIES["continue"])
    for name, share in row_tensors(model).items():
        share.copy_(checkpoint.rows(name, world))
    _take_optimiser(model, optimiser, checkpoint)


def _report(fates: Mapping[str, Fate], parent: str | None) -> RestoreReport:
    lists = {fate: sorted(name for name in fates if fates[name] == fate) for fate in set(fates.values())}
    return RestoreReport.model_validate({"parent": parent, **lists})


def _fill_memory(model: nn.Module, job: TrainingJob) -> None:
    memory = getattr(model, "memory", None)
    if not isinstance(memory, SnapshotMemory):
        raise ConfigError(f"training {job.model_id}: snapshots are given, but its model's memory is {job.model.memory}")
    memory.fill(job.snapshots)


def _parent(job: TrainingJob) -> Checkpoint:
    """The checkpoint that a job starts from, of the kind that its policy expects."""
    if job.parent is None:
        raise ConfigError(f"training {job.model_id}: transfer {job.transfer} needs a parent: train that model first")
    parent = Checkpoint.open(Path(job.parent))
    theirs, ours = parent.manifest.spec.model_dump(), job.model.model_dump()
    wrong = [key for key in ours if theirs[key] != ours[key] and key not in POLICIES[job.transfer].may_differ]
    if theirs["rows"] > ours["rows"]:
        wrong.append(f"rows ({theirs['rows']} would shrink to {ours['rows']})")
    if wrong:
        raise ConfigError(
            f"training {job.model_id}: its parent {parent.folder} differs in {', '.join(wrong)}: "
            "train the parent again with these settings"
        )
    return parent


def _take_dense(model: nn.Module, parent: Checkpoint, policy: Policy) -> dict[str, Fate]:
    stored, ours = parent.tensors(DENSE), dense_tensors(model)
    # A parent's attention has no counterpart where its outcome is merged; nothing else may be without one.
    left = {name for name in stored if name.startswith(_MEMORY)} - ours.keys() if _merges(model, parent) else set()
    parent.require({name: stored[name] for name in stored.keys() - left}, ours)
    reset = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, policy.reset)
        for kind in module.state_dict()
    }
    fates: dict[str, Fate] = {}
    for name in ours.keys() - reset:
        ours[name].copy_(stored[name])
        fates[name] = "taken_over"
    return fates | dict.fromkeys(reset, "reset") | dict.fromkeys(left, "left")


def _take_rows(model: nn.Module, parent: Checkpoint, job: TrainingJob, world: World) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    for name, share in row_tensors(model).items():
        if name == _MEMORY_TABLE and _merges(model, parent):
            stored = _merged_memory(parent, world)
            fates[name] = "merged"
        else:
            stored = parent.rows(name, world)
            fates[name] = "grown" if parent.manifest.spec.rows < job.model.rows else "taken_over"
        share[: len(stored)].copy_(stored)  # old rows come first in every rank's share: a table grows at its end
    return fates


def _merges(model: nn.Module, parent: Checkpoint) -> bool:
    memory = getattr(model, "memory", None)
    return parent.manifest.spec.memory == "snapshots" and not isinstance(memory, SnapshotMemory)


def _merged_memory(parent: Checkpoint, world: World) -> Tensor:
    """This rank's share of the parent's memory, its attention carried out."""
    memory = SnapshotMemory(parent.manifest.spec, world)
    attention = {
        name.removeprefix(_MEMORY): tensor for name, tensor in parent.tensors(DENSE).items() if name.startswith(_MEMORY)
    }
    memory.load_state_dict({**attention, "table.weight": parent.rows(_MEMORY_TABLE, world)})
    return memory.merged().table.weight


def _take_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, parent: Checkpoint) -> None:
    """Adam's state of every parameter; a parent that made no step has none."""
    parameters = dict(model.named_parameters())
    for key, tensor in parent.tensors(OPTIMISER).items():
        name, kind = key.rsplit("/", 1)
        if name not in parameters:
            raise ConfigError(f"checkpoint {parent.folder / OPTIMISER}: {name} is no parameter of the model")
        optimiser.state[parameters[name]][kind] = tensor
