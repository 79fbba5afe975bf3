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
from typing import Any, Literal
from zoneinfo import available_timezones

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ecdctr_spark.settings.base import ConfigError, Settings
from ecdctr_spark.settings.features import Features
from ecdctr_spark.settings.sources import Source, Synthetic
from ecdctr_spark.storage import Root

_INSTALLED = Path(__file__).resolve().parent / "conf"  # in a wheel; in a checkout conf/ lies beside the package
CONF = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "conf"

Level = Literal["tpm", "cpm", "actr", "ads_only"]


class Storage(Settings):
    root: str = Field(pattern=r"^[^#?%]+$", description="a path or a URI; the ranks open it as part of a URL")

    @field_validator("root")
    @classmethod
    def _known(cls, root: str) -> str:
        Root.parse(root)
        return root


class Spark(Settings):
    master: str
    driver_memory: str


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


class Limit(Settings):
    """The range that a measure may lie in; null is no limit."""

    low: float | None = None
    high: float | None = None


class Limits(Settings):
    """One limit for each measure of evaluation/health.py."""

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


class Optimisation(Settings):
    """Row-wise Adagrad for the embedding, Adam for the rest. One training reads its rows `epochs` times."""

    batch_size: int = Field(gt=0, description="rows of all ranks together")
    epochs: int = Field(gt=0)
    embedding_learning_rate: float = Field(gt=0)
    dense_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0, description="norm of the dense gradient")
    warmup_steps: int = Field(default=0, ge=0, description="over which both learning rates rise to what they are")
    accumulation_steps: int = Field(
        default=1, gt=0, description="parts in which a batch goes through the network: less memory"
    )
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the network, not of updates")
    kernel: Literal["torch", "fbgemm"] = Field(default="torch", description="of the embedding's updates")
    validation_share: float = Field(default=0.0, ge=0, lt=1, description="share of the files that are not trained on")
    patience: int = Field(default=1, gt=0, description="epochs without a better loss on what is held out, then it ends")
    seed: int


class Tpm(Settings):
    months: int = Field(gt=0, description="natural months that the first training catches up on")
    snapshots: int = Field(gt=0, description="newest monthly snapshots that the upper levels use")
    dimension: int = Field(gt=0)
    hidden: tuple[int, ...]
    train: Optimisation


class Cpm(Settings):
    days: int = Field(gt=0, description="natural days that each weekly training reads")
    weekday: int = Field(ge=0, le=6, description="day of the week it is trained on, Monday is 0")
    max_snapshot_age_days: int = Field(gt=0)
    train: Optimisation


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
    train: Optimisation


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
    min_ranks: int | None = Field(default=None, gt=0, description="that go on where others die; null: the run fails")
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
        if self.min_ranks is not None and self.min_ranks > self.ranks:
            raise ValueError(f"min_ranks is {self.min_ranks}, and there are {self.ranks} ranks: give no more")
        return self


class Tracking(Settings):
    uri: str | None = Field(
        description="MLflow tracking URI; null keeps a SQLite file under storage.root, or, where that is no local path,"
        " in the folder .ecdctr where the command runs"
    )
    experiment: str


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
    synthetic: Synthetic | None
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
            "synthetic": True,
            "demo": True,
        }
        return _digest(self.model_dump(mode="json", exclude={**elsewhere, "training": _NO_MATTER}))

    def samples_fingerprint(self) -> str:
        """Eight hex digits over every setting that can change a sample."""
        return _digest(self.model_dump(mode="json", include={"calendar", "labels", "features", "sampling", "samples"}))


_NO_MATTER = {"launcher", "min_ranks", "keep_checkpoints"}


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
