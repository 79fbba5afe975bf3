"""The typed configuration tree over conf/*.yaml, and the only place where settings are read.

conf/base.yaml holds every setting with its reason; an overlay names what differs. Later wins:
base < overlays in their order < dotted overrides (`train.batch_size=4096`).
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

_INSTALLED = Path(__file__).resolve().parent / "conf"  # in a wheel; in a checkout conf/ lies beside the package
CONF = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "conf"

Domain = Literal["natural", "ad"]
Part = Literal["tpm", "ctr"]  # which networks use a feature: the tiny model, or the complete one (CPM and A-CTR)
Level = Literal["tpm", "cpm", "actr", "ads_only"]


class ConfigError(ValueError):
    """A setting, command argument or input that cannot be used; its text is one line for the user (exit code 2)."""


class Settings(BaseModel):
    """Base of every node: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Storage(Settings):
    root: str = Field(pattern=r"^[^#?%]+$", description="a path; the ranks open it as part of a URL")


class Spark(Settings):
    master: str
    driver_memory: str


class Source(Settings):
    """Where raw logs come from. `kind` names an entry of sources.SOURCES; impressions to items are of kind `files`."""

    kind: str
    format: Literal["parquet", "csv", "json", "delta", "table"] = "parquet"
    impressions: str | None = None
    clicks: str | None = None
    users: str | None = None
    items: str | None = None
    folder: str | None = Field(default=None, description="where the files of kind kuairand or taobao were unpacked")
    ad_tab: int | None = Field(default=None, description="of kuairand: the tab that is the ad domain; null: AD videos")


class Calendar(Settings):
    timezone: str
    first_day: dt.date = Field(description="the first day of raw logs that is used")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in available_timezones():
            nearest = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.0)[0]
            raise ValueError(f"no time zone {name}; the nearest known one is {nearest}")
        return name


class Labels(Settings):
    attribution_hours: int = Field(gt=0)
    maturity_days: int = Field(ge=0, description="days before a new one that are ingested and built again with it")


class Id(Settings):
    """A token that gets a row of the embedding: `source` is a column of the impression, `context.X`, `user.X` or
    `item.X`. Which tokens get one is told in features/vocabulary.py."""

    kind: Literal["id"]
    name: str
    source: str
    min_count: int = Field(default=1, gt=0, description="impressions within features.admission_days that earn a row")
    max_tokens: int | None = Field(default=None, gt=0, description="rows that the field's tokens may have; null: any")
    evict_days: int | None = Field(default=None, gt=0, description="days unseen, then read as unknown; null: never")
    parts: tuple[Part, ...] = ("ctr",)


class Number(Settings):
    """A numeric attribute, log1p-transformed; null becomes 0."""

    kind: Literal["number"]
    name: str
    source: str
    parts: tuple[Part, ...] = ("ctr",)


class Count(Settings):
    """Impressions or clicks of an entity over the last `days` days up to yesterday, in log2 buckets with a row each."""

    kind: Literal["count"]
    name: str
    entity: str
    domain: Domain
    measure: Literal["impressions", "clicks"]
    days: int = Field(gt=0)
    buckets: int = Field(default=16, gt=1)
    parts: tuple[Part, ...] = ("ctr",)


class Rate(Settings):
    """The smoothed click rate of an entity over the last `days` days up to yesterday."""

    kind: Literal["rate"]
    name: str
    entity: str
    domain: Domain
    days: int = Field(gt=0)
    prior: float = Field(default=0.1, gt=0, lt=1)
    strength: float = Field(default=20.0, gt=0)
    parts: tuple[Part, ...] = ("ctr",)


class Behaviours(Settings):
    """The user's last `length` natural clicks up to yesterday, as rows of the id feature `of`, newest last."""

    kind: Literal["behaviours"]
    name: str
    of: str
    length: int = Field(gt=0)
    days: int = Field(default=90, gt=0)
    parts: tuple[Part, ...] = ("ctr",)


Feature = Annotated[Id | Number | Count | Rate | Behaviours, Field(discriminator="kind")]


class Features(Settings):
    freshness: Literal["daily", "event"] = Field(
        default="daily", description="daily: features know the days before; event: also what came before on the day"
    )
    availability_minutes: int = Field(default=0, ge=0, description="from an event to when features know of it")
    admission_days: int = Field(default=28, gt=0, description="days within which min_count is to be reached")
    hot_rows: int = Field(
        default=1_000_000, gt=0, description="impressions of one key on one day that a task is given; more are salted"
    )
    out_of_vocabulary: int = Field(gt=0, description="rows an id field keeps for tokens that it does not know")
    fields: tuple[Feature, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        names = [feature.name for feature in self.fields]
        ids = {feature.name for feature in self.fields if feature.kind == "id"}
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature {name} is declared twice")
        for feature in self.fields:
            if isinstance(feature, Behaviours) and feature.of not in ids:
                raise ValueError(f"behaviours {feature.name} are of {feature.of!r}, which is no id feature")
        if not {"user_id", "item_id"} <= ids:
            raise ValueError("features.fields must hold the id features user_id and item_id: they are transferred")
        return self

    @property
    def ids(self) -> tuple[Id, ...]:
        """The id features, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Id))

    @property
    def sources(self) -> tuple[str, ...]:
        """What the features read of an impression, each once."""
        own = [feature.source for feature in self.fields if isinstance(feature, Id | Number)]
        return tuple(dict.fromkeys([*own, *(counter.entity for counter in self.counters)]))

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted by day: the entities of the counters, and the ids whose row hangs on how often they come."""
        rationed = (feature.source for feature in self.ids if feature.min_count > 1 or feature.evict_days)
        return tuple(dict.fromkeys([*(counter.entity for counter in self.counters), *rationed]))

    @property
    def counters(self) -> tuple[Count | Rate, ...]:
        """The counts and rates, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Count | Rate))

    @property
    def behaviours(self) -> tuple[Behaviours, ...]:
        """The behaviour sequences, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Behaviours))


class Limit(Settings):
    """The range that a measure may lie in; null is no limit."""

    low: float | None = None
    high: float | None = None


class Limits(Settings):
    """One limit for each measure of features/health.py."""

    impressions: Limit = Limit()
    click_rate: Limit = Limit()
    known_users: Limit = Limit()
    known_items: Limit = Limit()
    null_rate: Limit = Limit()
    unknown_rate: Limit = Limit()
    drift: Limit = Limit()
    quarantined: Limit = Limit()
    duplicates: Limit = Limit()
    keep_rate: Limit = Limit()
    expected_keep_rate: Limit = Limit()
    tokens: Limit = Limit()
    new_tokens: Limit = Limit()


class Check(Settings):
    """The health of the data, looked at before anything is trained on them."""

    known_days: int = Field(gt=0, description="natural days in which an ad's user or item counts as known")
    least_rows: int = Field(ge=0, description="a day and domain of fewer rows is told, not judged")
    limits: Limits


class KeepRates(Settings):
    positive: float = Field(gt=0, le=1)
    negative: float = Field(gt=0, le=1)


class Sampling(Settings):
    seed: int
    natural: KeepRates
    ad: KeepRates


class Samples(Settings):
    rows_per_file: int = Field(gt=0)
    files_per_slice: int = Field(gt=0)


class Optimiser(Settings):
    """Row-wise Adagrad for the embedding, Adam for the rest. One training reads its rows `epochs` times."""

    batch_size: int = Field(gt=0, description="rows of all ranks together")
    epochs: int = Field(gt=0)
    embedding_learning_rate: float = Field(gt=0)
    dense_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0, description="norm of the dense gradient")
    warmup_steps: int = Field(default=0, ge=0, description="over which both learning rates rise to what they are")
    passes: int = Field(default=1, gt=0, description="a batch goes through the network in so many parts: less memory")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the network, not of updates")
    kernel: Literal["torch", "fbgemm"] = Field(default="torch", description="of the embedding's updates")
    held_out: float = Field(default=0.0, ge=0, lt=1, description="share of the files that are not trained on")
    patience: int = Field(default=1, gt=0, description="epochs without a better loss on what is held out, then it ends")
    seed: int


class Tpm(Settings):
    months: int = Field(gt=0, description="natural months that the first training catches up on")
    snapshots: int = Field(gt=0, description="newest monthly snapshots that the upper levels use")
    dimension: int = Field(gt=0)
    hidden: tuple[int, ...]
    train: Optimiser


class Cpm(Settings):
    days: int = Field(gt=0, description="natural days that each weekly training reads")
    weekday: int = Field(ge=0, le=6, description="day of the week it is trained on, Monday is 0")
    max_snapshot_age_days: int = Field(gt=0)
    train: Optimiser


class Policy(Settings):
    """What a model takes over from its parent. Patterns are globs over the names of tensors (`mlp.*`)."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = Field(default=(), description="as if the parent did not have them")
    rename: dict[str, str] = Field(default={}, description="how names begin in the parent: and in the model")
    reset: tuple[str, ...] = Field(default=(), description="begin afresh, whatever the parent's are like")
    batch_norm: Literal["reset", "copied"] = "reset"
    optimiser: Literal["fresh", "kept"] = "fresh"


class Actr(Settings):
    days: int = Field(gt=0, description="ad days read after each initialisation from CPM")
    max_cpm_age_days: int = Field(gt=0)
    from_cpm: Policy = Policy()
    train: Optimiser


class Network(Settings):
    """CPM and A-CTR: the same network (paper, section 3.3)."""

    dimension: int = Field(gt=0)
    hidden: tuple[int, ...]
    pooling: Literal["attention", "mean"]
    attention_hidden: tuple[int, ...]
    cross_layers: int = Field(ge=0)


class Evaluation(Settings):
    baselines: tuple[Literal["ads_only"], ...]
    bootstrap: int = Field(gt=0)


class Training(Settings):
    launcher: Literal["inline", "horovodrun", "spark"]
    ranks: int = Field(gt=0)
    least_ranks: int | None = Field(default=None, gt=0, description="that go on where others die; null: the run fails")
    threads_per_rank: int = Field(gt=0)
    shuffle_rows: int = Field(gt=0, description="rows that a rank holds and mixes")
    checkpoint_steps: int = Field(
        default=1000, gt=0, description="steps after which a training that is killed loses no more"
    )
    keep_checkpoints: int = Field(
        default=2, gt=0, description="checkpoints of a training under way; the model itself stays"
    )

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Training:
        if self.least_ranks is not None and self.least_ranks > self.ranks:
            raise ValueError(f"least_ranks is {self.least_ranks}, and there are {self.ranks} ranks: give no more")
        return self


class Tracking(Settings):
    uri: str | None = Field(description="MLflow tracking URI; null keeps a SQLite file under storage.root")
    experiment: str


class World(Settings):
    """A synthetic platform (sources/world.py). Strengths are in units of the logit of a click."""

    seed: int
    days: int = Field(gt=0)
    impressions_per_day: int = Field(gt=0)
    users: int = Field(gt=0, description="at the start")
    items: int = Field(gt=0, description="at the start")
    births: float = Field(ge=0, description="users and items that each day adds, as a share of those at the start")
    newest_share: float = Field(ge=0, le=1, description="share of the traffic that goes to the newest")
    activity: float = Field(ge=1, description="the greater, the more events a few users have")
    popularity: float = Field(ge=1, description="the greater, the more events a few items have")
    categories: int = Field(gt=0)
    advertisers: int = Field(gt=0)
    ad_share: float = Field(gt=0, lt=1)
    natural_base: float = Field(description="logit of a natural click, all else equal")
    ad_base: float = Field(description="logit of an ad's click, all else equal")
    correlation: float = Field(ge=0, le=1, description="of taste in ads with taste in natural content")
    quality: float = Field(ge=0)
    taste: float = Field(ge=0)
    drift_days: float = Field(gt=0, description="days in which a taste turns into one that has nothing to do with it")
    weekly: float = Field(ge=0, description="interests that last for a week")
    seasonal: float = Field(ge=0, description="interests that last for a season and return with it")
    season_days: int = Field(gt=0)
    position_bias: float = Field(ge=0, description="from the first place to the last")
    late_clicks: float = Field(ge=0, le=1, description="share that comes after 1 to 49 hours")
    duplicates: float = Field(ge=0, le=1)
    malformed: float = Field(ge=0, le=1)

    @property
    def events(self) -> int:
        """Impressions of all days."""
        return self.days * self.impressions_per_day


class Demo(Settings):
    """The days that `ecdctr demo` predicts one by one."""

    first: dt.date
    last: dt.date


class Config(Settings):
    """The whole tree, resolved and checked."""

    storage: Storage
    spark: Spark
    source: Source
    calendar: Calendar
    labels: Labels
    features: Features
    sampling: Sampling
    samples: Samples
    check: Check
    training: Training
    network: Network
    tpm: Tpm
    cpm: Cpm
    actr: Actr
    evaluation: Evaluation
    tracking: Tracking
    world: World | None
    demo: Demo | None

    def fingerprint(self) -> str:
        """Eight hex digits over every setting that can change a model: not where it runs, reads or stores."""
        elsewhere = {
            "storage": True,
            "spark": True,
            "source": True,
            "tracking": True,
            "evaluation": True,
            "check": True,
            "world": True,
            "demo": True,
        }
        return _digest(self.model_dump(mode="json", exclude={**elsewhere, "training": _NO_MATTER}))

    def samples_fingerprint(self) -> str:
        """Eight hex digits over every setting that can change a sample."""
        return _digest(self.model_dump(mode="json", include={"calendar", "labels", "features", "sampling", "samples"}))


_NO_MATTER = {"launcher", "least_ranks", "keep_checkpoints"}


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def load_config(overlays: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """conf/base.yaml, then the overlay files, then overrides of the form `dotted.key=value`.

    An overlay that is no path to a file is looked up in conf/ (`movielens` means conf/movielens.yaml). Raises
    ConfigError with one line that names the key at fault and its nearest neighbour.
    """
    files = [CONF / "base.yaml", *(_overlay(overlay) for overlay in overlays)]
    try:
        tree = OmegaConf.merge(*(OmegaConf.load(file) for file in files), _dotlist(overrides))
        return Config.model_validate(OmegaConf.to_container(tree, resolve=True))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except (OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigError(f"configuration: {' '.join(str(error).split())}") from error


def _overlay(name: str | Path) -> Path:
    for path in (Path(name), CONF / f"{name}.yaml"):
        if path.is_file():
            return path
    known = sorted(path.stem for path in CONF.glob("*.yaml"))
    raise ConfigError(f"configuration: no file {name}; give a path or one of {', '.join(known)}")


def _dotlist(overrides: Sequence[str]) -> Any:
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"configuration: --set {override!r} is not of the form dotted.key=value")
    return OmegaConf.from_dotlist(list(overrides))


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"configuration: {key or 'the tree'}: {first['msg']}"
    nearest = difflib.get_close_matches(key, _every_key(Config), n=1, cutoff=0.0)
    return f"configuration: unknown key {key}; the nearest known one is {nearest[0]}"


def _every_key(node: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in node.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _every_key(field.annotation, f"{prefix}{name}.")
