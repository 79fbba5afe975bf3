"""A method is data: an ordered list of levels, one of which serves. E-CDCTR is one; so are its rivals and ablations.

A level is a chain of models on a clock. Each model is dated by the last day that it has seen and may serve from the
next day. What a level reads, how its models start and what they remember of other levels are fields. Planning, registry
and report use these fields only: no code depends on the name of a level.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from ecdctr_spark.settings.base import Settings
from ecdctr_spark.settings.features import Domain

DAY = dt.timedelta(days=1)
_NAME = r"^[a-z][a-z0-9_]*$"
_KEY = "its key in the mapping: not set beside it"

Product = Literal["snapshot"]  # beside its checkpoint: the vectors of users and items, for the memory of other levels


Every = Literal["day", "week", "month"]
CLOCKS: frozenset[Every] = frozenset(get_args(Every))


class Daily(Settings):
    """Due every day."""

    every: Literal["day"]

    def newest(self, day: dt.date) -> dt.date:
        """The day itself."""
        return day


class Weekly(Settings):
    """Due on one day of the week; Monday is 0."""

    every: Literal["week"]
    weekday: int = Field(ge=0, le=6, description="0 is Monday")

    def newest(self, day: dt.date) -> dt.date:
        """The last day up to `day` on which it is due."""
        return day - ((day.weekday() - self.weekday) % 7) * DAY


class Monthly(Settings):
    """Due on the last day of each month."""

    every: Literal["month"]

    def newest(self, day: dt.date) -> dt.date:
        """The last day up to `day` that ends a month."""
        return day if (day + DAY).day == 1 else day.replace(day=1) - DAY


Clock = Annotated[Daily | Weekly | Monthly, Field(discriminator="every")]


class Reads(Settings):
    """The samples that a level trains on. A model that continues reads the days since its parent, any other the last
    `days`."""

    domains: dict[Domain, float] = Field(min_length=1, description="weight of each in the loss")
    features: Literal["all", "basic"] = Field(description="basic: the fields declared so (paper, section 3.2)")
    days: int | None = Field(gt=0, description="read at a start; null: those since it was due before")

    @model_validator(mode="after")
    def _positive(self) -> Reads:
        for domain, weight in self.domains.items():
            if not weight > 0:
                raise ValueError(f"domains.{domain} has weight {weight}: give one above 0, or leave the domain out")
        return self


class Network(Settings):
    """A network: its `kind` is an entry of models.MODELS, whose settings class checks the other keys."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(description="an entry of models.MODELS")
    dimension: int = Field(gt=0, description="of the embedding's vectors")
    seed: int = Field(description="of the initial weights")

    @model_validator(mode="before")
    @classmethod
    def _as_json(cls, node: Any) -> Any:
        """Sequences become lists, as after a round trip through JSON, so that equal networks compare equal."""
        if not isinstance(node, Mapping):
            return node
        return {key: list(value) if isinstance(value, tuple) else value for key, value in node.items()}


class Optimisation(Settings):
    """How a training optimises: row-wise Adagrad for the embedding, Adam for the rest. It reads its rows `epochs`
    times."""

    batch_size: int = Field(gt=0, description="rows of all ranks together")
    epochs: int = Field(gt=0, description="times that it reads its rows; clicks are many, so once is usual")
    embedding_learning_rate: float = Field(gt=0, description="of row-wise Adagrad")
    dense_learning_rate: float = Field(gt=0, description="of Adam")
    weight_decay: float = Field(ge=0, description="of the dense weights")
    gradient_clip: float = Field(gt=0, description="norm of the dense gradient")
    warmup_steps: int = Field(default=0, ge=0, description="over which both learning rates rise")
    accumulation_steps: int = Field(default=1, gt=0, description="parts of a batch, one after another: less memory")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the network, not of updates")
    kernel: Literal["torch", "fbgemm"] = Field(default="torch", description="of the embedding's updates")
    validation_share: float = Field(default=0.0, ge=0, lt=1, description="share of the files that are not trained on")
    patience: int = Field(default=1, gt=0, description="epochs without a better validation loss, then it stops")
    shuffle_rows: int = Field(default=65_536, gt=0, description="rows that a rank holds and shuffles")
    checkpoint_steps: int = Field(
        default=1000, gt=0, description="steps between checkpoints: what a killed training repeats at most"
    )
    seed: int = Field(description="of the order of rows")


class Policy(Settings):
    """What a model takes over from its parent. Patterns are globs over the names of tensors (`mlp.*`)."""

    include: tuple[str, ...] = Field(default=("*",), description="what is taken over; the rest starts afresh")
    exclude: tuple[str, ...] = Field(default=(), description="as if the parent did not have them")
    rename: dict[str, str] = Field(default={}, description="prefix of names in the parent: prefix in the model")
    reset: tuple[str, ...] = Field(default=(), description="start afresh, even if the parent has them")
    batch_norm: Literal["reset", "copied"] = "reset"
    optimiser: Literal["fresh", "kept"] = "fresh"


class Continue(Settings):
    """From the level's own previous model, with everything taken over. Applies within a chain, not at its start."""

    how: Literal["continue"]


class From(Settings):
    """From the newest model of another level. Each new model of that level starts a new chain (methods/planning.py)."""

    how: Literal["from"]
    level: str = Field(description="before this one in the method")
    max_age_days: int = Field(gt=0, description="a missing parent is replaced by an older one, up to this age")
    policy: Policy = Policy()


class Fresh(Settings):
    """From initial weights."""

    how: Literal["fresh"]


Start = Annotated[Continue | From | Fresh, Field(discriminator="how")]


class Memory(Settings):
    """A level's memory of users and items: snapshots of another level (paper, sections 3.3 and 3.4).

    attention, mean, last: pooling over the newest `snapshots`. merged: one vector per entity, computed from the
    parent's memory and frozen.
    """

    of: str = Field(description="a level before this one that keeps snapshots")
    pooling: Literal["attention", "mean", "last", "merged"] = Field(description="how several become one vector")
    snapshots: int = Field(default=3, gt=0, description="newest ones that are used")
    max_age_days: int = Field(default=92, gt=0, description="older ones are left out")


class Teacher(Settings):
    """A level whose newest model's predictions are targets too (Hinton et al. 2015, arXiv 1503.02531).

    The loss is (1 - share) * cross-entropy with the clicks + share * cross-entropy with the teacher's probabilities.
    """

    level: str = Field(description="before this one in the method")
    share: float = Field(gt=0, le=1, description="of the teacher in the loss")
    max_age_days: int = Field(gt=0, description="an older teacher is not used: the training is refused")


class Level(Settings):
    """A chain of models on a clock."""

    name: str = Field(pattern=_NAME, description=_KEY)
    title: str = Field(description="for people")
    clock: Clock
    starts_on: dt.date | None = Field(
        default=None, description="first day that a chain without a parent reads; null: calendar.first_day"
    )
    reads: Reads
    network: Network
    train: Optimisation
    starts: tuple[Start, ...] = Field(min_length=1, description="the first that applies")
    memory: Memory | None = None
    teacher: Teacher | None = None
    keeps: tuple[Product, ...] = ()
    when_it_fails: Literal["stop", "use the previous one"] = Field(
        default="stop", description="use the previous one: the run carries on, and ends with the error"
    )

    @property
    def parent(self) -> From | None:
        """Its start from another level, if it has one."""
        return next((start for start in self.starts if isinstance(start, From)), None)

    @property
    def continues(self) -> bool:
        """Whether a model may continue the one before it."""
        return any(isinstance(start, Continue) for start in self.starts)

    @property
    def refers_to(self) -> tuple[str, ...]:
        """The other levels that its models are made from."""
        others = [
            self.parent and self.parent.level,
            self.memory and self.memory.of,
            self.teacher and self.teacher.level,
        ]
        return tuple(dict.fromkeys(other for other in others if other))


class Method(Settings):
    """Levels, each of which refers only to levels before it, and the one that serves."""

    name: str = Field(pattern=_NAME, description=_KEY)
    title: str = Field(description="for people")
    levels: dict[str, Level] = Field(min_length=1)
    serves: str = Field(description="the level whose models predict the next day")

    @model_validator(mode="after")
    def _in_order(self) -> Method:
        before: dict[str, Level] = {}
        for level in self.levels.values():
            for other in level.refers_to:
                if other not in before:
                    known = ", ".join(before) or "none"
                    raise ValueError(f"level {level.name} refers to {other}, which is not before it; those are {known}")
            _check_memory(level, before)
            if level.teacher and before[level.teacher.level].reads.features != level.reads.features:
                raise ValueError(f"level {level.name}: its teacher {level.teacher.level} reads other features")
            before[level.name] = level
        if self.serves not in before:
            raise ValueError(f"serves is {self.serves}, which is no level; expected one of {', '.join(before)}")
        return self


def _check_memory(level: Level, before: dict[str, Level]) -> None:
    """Raises ValueError unless a memory is of a level that keeps snapshots, and a merged one has a parent with one."""
    if level.memory is None:
        return
    if "snapshot" not in before[level.memory.of].keeps:
        raise ValueError(
            f"level {level.name} has a memory of {level.memory.of}, which keeps no snapshot: set its keeps"
        )
    if level.memory.pooling == "merged" and (level.parent is None or before[level.parent.level].memory is None):
        raise ValueError(f"level {level.name}: a merged memory needs a start from a level that has a memory")
