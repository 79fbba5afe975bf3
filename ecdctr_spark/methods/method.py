"""A method is data: an ordered list of levels, one of which serves. E-CDCTR is one; so are its rivals and ablations.

A level is a chain of models on a clock. Each model is dated by the last day that it has seen and may serve from the
next day. What a level reads, how its models start and what they remember of other levels are fields. Planning, registry
and report use these fields only: no code depends on the name of a level.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from msgspec import Meta
from msgspec.structs import force_setattr

from ecdctr_spark.settings.base import (
    NotNegative,
    NotNegativeNumber,
    Positive,
    PositiveNumber,
    PositiveShare,
    Settings,
    about,
    plain,
)
from ecdctr_spark.settings.features import Domain
from ecdctr_spark.settings.networks import checked

DAY = dt.timedelta(days=1)
_NAME = r"^[a-z][a-z0-9_]*\Z"
_KEY = "its key in the mapping: not set beside it"

Product = Literal["snapshot"]  # beside its checkpoint: the vectors of users and items, for the memory of other levels


Every = Literal["day", "week", "month"]
How = Literal["continue", "from", "fresh"]  # a model starts
CLOCKS: frozenset[Every] = frozenset(get_args(Every))


class Daily(Settings, frozen=True, tag_field="every", tag="day"):
    """Due every day."""

    every: ClassVar[Every] = "day"

    def newest(self, day: dt.date) -> dt.date:
        """The day itself."""
        return day


class Weekly(Settings, frozen=True, tag_field="every", tag="week"):
    """Due on one day of the week; Monday is 0."""

    every: ClassVar[Every] = "week"
    weekday: Annotated[int, Meta(ge=0, le=6), about("0 is Monday")]

    def newest(self, day: dt.date) -> dt.date:
        """The last day up to `day` on which it is due."""
        return day - ((day.weekday() - self.weekday) % 7) * DAY


class Monthly(Settings, frozen=True, tag_field="every", tag="month"):
    """Due on the last day of each month."""

    every: ClassVar[Every] = "month"

    def newest(self, day: dt.date) -> dt.date:
        """The last day up to `day` that ends a month."""
        return day if (day + DAY).day == 1 else day.replace(day=1) - DAY


Clock = Daily | Weekly | Monthly


class Reads(Settings, frozen=True):
    """The samples that a level trains on. A model that continues reads the days since its parent, any other the last
    `days`."""

    domains: Annotated[dict[Domain, float], Meta(min_length=1), about("weight of each in the loss")]
    features: Annotated[Literal["all", "basic"], about("basic: the fields declared so (paper, section 3.2)")]
    days: Annotated[Positive | None, about("read at a start; null: those since it was due before")]

    def __post_init__(self) -> None:
        for domain, weight in self.domains.items():
            if not weight > 0:
                raise ValueError(f"domains.{domain} has weight {weight}: give one above 0, or leave the domain out")


class Optimisation(Settings, frozen=True, kw_only=True):
    """How a training optimises: row-wise Adagrad for the embedding, Adam for the rest. It reads its rows `epochs`
    times."""

    batch_size: Annotated[Positive, about("rows of all ranks together")]
    epochs: Annotated[Positive, about("times that it reads its rows; clicks are many, so once is usual")]
    embedding_learning_rate: Annotated[PositiveNumber, about("of row-wise Adagrad")]
    dense_learning_rate: Annotated[PositiveNumber, about("of Adam")]
    weight_decay: Annotated[NotNegativeNumber, about("of the dense weights")]
    gradient_clip: Annotated[PositiveNumber, about("norm of the dense gradient")]
    warmup_steps: Annotated[NotNegative, about("over which both learning rates rise")] = 0
    accumulation_steps: Annotated[Positive, about("parts of a batch, one after another: less memory")] = 1
    precision: Annotated[Literal["float32", "bfloat16"], about("of the network, not of updates")] = "float32"
    wire: Annotated[
        Literal["float32", "float16"],
        about("of rows' vectors and gradients between ranks; float16: half the bytes, rounded, clipped at 65504"),
    ] = "float32"
    kernel: Annotated[Literal["torch", "fbgemm"], about("of the embedding's updates")] = "torch"
    validation_share: Annotated[float, Meta(ge=0, lt=1), about("share of the files that are not trained on")] = 0.0
    patience: Annotated[Positive, about("epochs without a better validation loss, then it stops")] = 1
    shuffle_rows: Annotated[Positive, about("rows that a rank holds and shuffles")] = 65_536
    checkpoint_steps: Annotated[
        Positive, about("steps between checkpoints: what a killed training repeats at most")
    ] = 1000
    seed: Annotated[int, about("of the order of rows")]


class Policy(Settings, frozen=True):
    """What a model takes over from its parent. Patterns are globs over the names of tensors (`mlp.*`)."""

    include: Annotated[tuple[str, ...], about("what is taken over; the rest starts afresh")] = ("*",)
    exclude: Annotated[tuple[str, ...], about("as if the parent did not have them")] = ()
    rename: Annotated[Mapping[str, str], about("prefix of names in the parent: prefix in the model")] = {}
    reset: Annotated[tuple[str, ...], about("start afresh, even if the parent has them")] = ()
    batch_norm: Literal["reset", "copied"] = "reset"
    optimiser: Literal["fresh", "kept"] = "fresh"


class Continue(Settings, frozen=True, tag_field="how", tag="continue"):
    """From the level's own previous model, with everything taken over. Applies within a chain, not at its start."""

    how: ClassVar[How] = "continue"


class From(Settings, frozen=True, tag_field="how", tag="from"):
    """From the newest model of another level. Each new model of that level starts a new chain (methods/planning.py)."""

    how: ClassVar[How] = "from"
    level: Annotated[str, about("before this one in the method")]
    max_age_days: Annotated[Positive, about("a missing parent is replaced by an older one, up to this age")]
    policy: Policy = Policy()


class Fresh(Settings, frozen=True, tag_field="how", tag="fresh"):
    """From initial weights."""

    how: ClassVar[How] = "fresh"


Start = Continue | From | Fresh


class Memory(Settings, frozen=True):
    """A level's memory of users and items: snapshots of another level (paper, sections 3.3 and 3.4).

    attention, mean, last: pooling over the newest `snapshots`. merged: one vector per entity, computed from the
    parent's memory and frozen.
    """

    of: Annotated[str, about("a level before this one that keeps snapshots")]
    pooling: Annotated[Literal["attention", "mean", "last", "merged"], about("how several become one vector")]
    snapshots: Annotated[Positive, about("newest ones that are used")] = 3
    max_age_days: Annotated[Positive, about("older ones are left out")] = 92


class Teacher(Settings, frozen=True):
    """A level whose newest model's predictions are targets too (Hinton et al. 2015, arXiv 1503.02531).

    The loss is (1 - share) * cross-entropy with the clicks + share * cross-entropy with the teacher's probabilities.
    """

    level: Annotated[str, about("before this one in the method")]
    share: Annotated[PositiveShare, about("of the teacher in the loss")]
    max_age_days: Annotated[Positive, about("an older teacher is not used: the training is refused")]


class Level(Settings, frozen=True, kw_only=True):
    """A chain of models on a clock."""

    name: Annotated[str, Meta(pattern=_NAME), about(_KEY)]
    title: Annotated[str, about("for people")]
    clock: Clock
    starts_on: Annotated[
        dt.date | None, about("first day that a chain without a parent reads; null: calendar.first_day")
    ] = None
    reads: Reads
    network: dict[str, Any]  # as the class of its kind has it (settings/networks.py)
    train: Optimisation
    starts: Annotated[tuple[Start, ...], Meta(min_length=1), about("the first that applies")]
    memory: Memory | None = None
    teacher: Teacher | None = None
    keeps: tuple[Product, ...] = ()
    when_it_fails: Annotated[
        Literal["stop", "use the previous one"],
        about("use the previous one: the run carries on, and ends with the error"),
    ] = "stop"

    def __post_init__(self) -> None:
        force_setattr(self, "network", plain(checked(self.network)))

    @property
    def dimension(self) -> int:
        """Of its embedding's vectors."""
        return int(self.network["dimension"])

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


class Method(Settings, frozen=True):
    """Levels, each of which refers only to levels before it, and the one that serves."""

    name: Annotated[str, Meta(pattern=_NAME), about(_KEY)]
    title: Annotated[str, about("for people")]
    levels: Annotated[dict[str, Level], Meta(min_length=1)]
    serves: Annotated[str, about("the level whose models predict the next day")]

    def __post_init__(self) -> None:
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
