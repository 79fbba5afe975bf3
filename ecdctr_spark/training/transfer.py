"""What a model takes over from its parent, and the report of where each tensor came from.

fresh: nothing. continue: everything, optimiser state included; tables grow. from: by the job's policy, by default
(paper, section 3.4) everything but batch norm, whose weights and statistics describe natural traffic. Attention over
snapshots is frozen into one vector per entity. The rows' Adagrad state goes with the rows. Without it the first step
would move every row that a few ads touch by the full learning rate, whatever its gradient, and erase what months of
natural traffic have taught it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from ecdctr_spark.methods.method import Policy
from ecdctr_spark.models.embedding import ShardedTable
from ecdctr_spark.models.memory import SnapshotMemory
from ecdctr_spark.models.spec import MemorySpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.training.adamw import AdamW
from ecdctr_spark.training.checkpoint import DENSE, OPTIMISER, Checkpoint, RestoreReport
from ecdctr_spark.training.job import TrainingJob
from ecdctr_spark.training.world import World

Fate = Literal["taken_over", "grown", "merged", "reset", "new", "left"]  # the fields of RestoreReport

_MEMORY = "memory."
_MEMORY_TABLE = "memory.table.weight"


_EVERYTHING = Policy(batch_norm="copied", optimiser="kept")
# Fields of the spec in which a parent may differ. Where its network differs, the policy must leave those tensors out.
_MAY_DIFFER = {"continue": {"rows"}, "from": {"rows", "memory", "network"}}


@torch.no_grad()
def restore(model: nn.Module, optimiser: AdamW, job: TrainingJob, world: World) -> RestoreReport:
    """Sets a freshly built model and its optimiser to the start of its training, by job.how. The report has every
    tensor. All ranks call it together.

    Raises ConfigError for anything that the policy does not cover: a tensor that is missing, unknown or of another
    shape, a parent with another spec, a table that would shrink.
    """
    fates: dict[str, Fate] = dict.fromkeys([*dense_tensors(model), *row_tensors(model)], "new")
    if job.snapshots:
        _fill_memory(model, job)
        fates[_MEMORY_TABLE] = "taken_over"
    if job.how == "fresh":
        return _report(fates, parent=None)
    parent, policy = _parent(job), _EVERYTHING if job.how == "continue" else job.policy
    _check_patterns(model, policy)
    fates |= _take_dense(model, parent, policy)
    fates |= _take_rows(model, parent, policy, world)
    if policy.optimiser == "kept":
        _take_optimiser(model, optimiser, parent, policy)
    return _report(fates, parent.manifest.model_id)


def take_all(model: nn.Module, optimiser: AdamW, checkpoint: Checkpoint, world: World) -> None:
    """Takes over everything of a checkpoint of the same model. Raises ConfigError where anything does not fit."""
    _take_dense(model, checkpoint, _EVERYTHING)
    _take_rows(model, checkpoint, _EVERYTHING, world)
    _take_optimiser(model, optimiser, checkpoint, _EVERYTHING)


def _report(fates: Mapping[str, Fate], parent: str | None) -> RestoreReport:
    lists = {fate: tuple(sorted(name for name in fates if fates[name] == fate)) for fate in set(fates.values())}
    return RestoreReport(parent=parent, **lists)


def _fill_memory(model: nn.Module, job: TrainingJob) -> None:
    memory = getattr(model, "memory", None)
    if not isinstance(memory, SnapshotMemory):
        raise ConfigError(f"training {job.model_id}: it names snapshots, but its model has no memory for them")
    memory.fill(job.snapshots)


def _parent(job: TrainingJob) -> Checkpoint:
    """The checkpoint that a job starts from. Raises ConfigError where its spec does not fit."""
    if job.parent is None:
        raise ConfigError(f"training {job.model_id}: start {job.how} needs a parent: train that model first")
    parent = Checkpoint.open(Root.parse(job.parent))
    theirs, ours = parent.manifest.spec, job.model
    differ = [key for key in ours.__struct_fields__ if getattr(theirs, key) != getattr(ours, key)]
    wrong = [key for key in differ if key not in _MAY_DIFFER[job.how]]
    if theirs.dimension != ours.dimension:
        wrong.append("network.dimension")
    if theirs.rows > ours.rows:
        wrong.append(f"rows ({theirs.rows} would shrink to {ours.rows})")
    if wrong:
        raise ConfigError(
            f"training {job.model_id}: its parent {parent.root} differs in {', '.join(wrong)}: "
            "train the parent again with these settings"
        )
    return parent


def _take_dense(model: nn.Module, parent: Checkpoint, policy: Policy) -> dict[str, Fate]:
    stored = {_renamed(name, policy): tensor for name, tensor in parent.tensors(DENSE).items()}
    ours, reset = dense_tensors(model), _reset(model, policy)
    wanted = {name for name in ours if _chosen(name, policy)} - reset
    # A parent's attention has no counterpart in a merged memory. Every other tensor must have one.
    merged = {name for name in stored if name.startswith(_MEMORY)} - ours.keys() if _merges(model, parent) else set()
    left = merged | {name for name in stored if not _chosen(name, policy)} | (reset - ours.keys())
    parent.require({name: stored[name] for name in stored.keys() - left - reset}, {name: ours[name] for name in wanted})
    for name in wanted:
        ours[name].copy_(stored[name])
    fates: dict[str, Fate] = dict.fromkeys(wanted, "taken_over")
    return (
        fates | dict.fromkeys(reset & stored.keys() & ours.keys(), "reset") | dict.fromkeys(left - ours.keys(), "left")
    )


def _take_rows(model: nn.Module, parent: Checkpoint, policy: Policy, world: World) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    reset = _reset(model, policy)
    for name, share in row_tensors(model).items():
        if name in reset:
            fates[name] = "reset"
            continue
        if not _chosen(name, policy):
            continue
        pooled = _pooled(parent) if name == _MEMORY_TABLE and _merges(model, parent) else None
        if pooled is not None:
            stored = _merged_memory(parent, pooled, world)
            fates[name] = "merged"
        else:
            stored = parent.rows(_name_in_parent(name, policy), world)
            fates[name] = "grown" if parent.manifest.spec.rows < _rows(model) else "taken_over"
        share[: len(stored)].copy_(stored)  # old rows come first in each rank's share: tables grow at their end
    return fates


def _rows(model: nn.Module) -> int:
    return max(module.rows for module in model.modules() if isinstance(module, ShardedTable))


def _chosen(name: str, policy: Policy) -> bool:
    return _matches(name, policy.include) and not _matches(name, policy.exclude)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _renamed(name: str, policy: Policy) -> str:
    """The model's name for a tensor of the parent."""
    for theirs, ours in policy.rename.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _name_in_parent(name: str, policy: Policy) -> str:
    for theirs, ours in policy.rename.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _reset(model: nn.Module, policy: Policy) -> set[str]:
    """The names of the model's tensors that start afresh."""
    named = {name for name in (*dense_tensors(model), *row_tensors(model)) if _matches(name, policy.reset)}
    if policy.batch_norm == "copied":
        return named
    norms = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d))
    return named | {f"{name}.{kind}" for name, module in norms for kind in module.state_dict()}


def _check_patterns(model: nn.Module, policy: Policy) -> None:
    """Raises ConfigError for a pattern that matches no tensor: most likely a typing error."""
    names = [*dense_tensors(model), *row_tensors(model)]
    for pattern in (*policy.include, *policy.exclude, *policy.reset):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"start from another level: no tensor matches {pattern!r}; the model has {', '.join(sorted(names))}"
            )


def _merges(model: nn.Module, parent: Checkpoint) -> bool:
    return _pooled(parent) is not None and not isinstance(getattr(model, "memory", None), SnapshotMemory)


def _pooled(parent: Checkpoint) -> MemorySpec | None:
    """The parent's memory, if it pools snapshots."""
    memory = parent.manifest.spec.memory
    return None if memory is None or memory.pooling == "merged" else memory


def _merged_memory(parent: Checkpoint, spec: MemorySpec, world: World) -> Tensor:
    """This rank's share of the parent's memory, with its pooling applied."""
    memory = SnapshotMemory(parent.manifest.spec.rows, spec, world)
    attention = {
        name.removeprefix(_MEMORY): tensor for name, tensor in parent.tensors(DENSE).items() if name.startswith(_MEMORY)
    }
    memory.load_state_dict({**attention, "table.weight": parent.rows(_MEMORY_TABLE, world)})
    return memory.merged().table.weight


def _take_optimiser(model: nn.Module, optimiser: AdamW, parent: Checkpoint, policy: Policy) -> None:
    """Takes over Adam's state of each parameter that is taken over; a parent that made no step has none."""
    parameters, reset = {name for name, _ in model.named_parameters()}, _reset(model, policy)
    for key, tensor in parent.tensors(OPTIMISER).items():
        theirs, kind = key.rsplit("/", 1)
        name = _renamed(theirs, policy)
        if name in reset or not _chosen(name, policy) or (name.startswith(_MEMORY) and _merges(model, parent)):
            continue
        if name not in parameters:
            raise ConfigError(f"checkpoint {parent.root.at(OPTIMISER)}: {name} is no parameter of the model")
        optimiser.take(name, kind, tensor)
