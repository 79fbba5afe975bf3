"""The typed configuration tree over conf/*.yaml, and the only place where settings are read.

conf/base.yaml and conf/methods/ hold every setting with its reason; an overlay names what differs. Later ones win:
base < overlays in their order < dotted overrides (`training.ranks=4`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, field_validator, model_validator

from ecdctr_spark.events import without_secrets
from ecdctr_spark.methods import likeness
from ecdctr_spark.methods.identity import DATA_SET_FORMAT, LOGS_FORMAT, identity
from ecdctr_spark.methods.method import Every, Method
from ecdctr_spark.settings.base import ConfigError, Settings, Timezone, explained
from ecdctr_spark.settings.features import Features, check_layer
from ecdctr_spark.settings.sources import Source, Synthetic
from ecdctr_spark.settings.streaming import Streaming
from ecdctr_spark.shipped import folder
from ecdctr_spark.storage import Root

if TYPE_CHECKING:
    from importlib.abc import Traversable

CONF = folder("conf")


class Storage(Settings):
    """Where everything that is made is stored."""

    root: str = Field(pattern=r"^[^#?%]+$", description="a path or a URI; the ranks open it as part of a URL")
    catalog: str | None = Field(
        default=None, pattern=r"^[^.`\s/]+\.[^.`\s/]+$", description="catalog.schema in which the tables get names"
    )

    @field_validator("root")
    @classmethod
    def _known(cls, root: str) -> str:
        Root.parse(root)
        return root

    @model_validator(mode="after")
    def _nameable(self) -> Storage:
        if self.catalog and Root.parse(self.root).in_volume:
            raise ValueError(
                f"catalog is {self.catalog}, but root is {self.root}, and Unity Catalog has no tables in volumes:"
                " put root in an external location (s3://, abfss://, gs://), or leave catalog out"
            )
        return self


class Spark(Settings):
    """The session that is started where none is there."""

    master: str
    driver_memory: str = Field(pattern="^[1-9][0-9]*[kmgtKMGT]$", description="as the JVM's -Xmx: 4g, 900m")


class Calendar(Settings):
    """What a day is, and the first one."""

    timezone: Timezone
    first_day: dt.date = Field(description="the first day of raw logs that is used")


class Labels(Settings):
    """When an impression counts as clicked, and until when that may change."""

    attribution_hours: int = Field(gt=0)
    maturity_days: int = Field(ge=0, description="days before a new one that are ingested and built again with it")


class Limit(Settings):
    """The range of a measure; null is no limit."""

    low: float | None = Field(default=None, description="below it, a run stops before it trains")
    high: float | None = Field(default=None, description="above it, likewise")


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
    restated: Limit = Limit()  # of an ingest: the rows of a day that comes again, as a share of those it had


class Check(Settings):
    """The health check of the data before anything is trained on them."""

    known_days: int = Field(gt=0, description="days of natural logs in which an ad's user or item counts as known")
    least_rows: int = Field(ge=0, description="measures of fewer rows are reported, not judged")
    without_logs: tuple[dt.date, ...] = Field(default=(), description="days that have no logs and need none")
    limits: Limits


class KeepRates(Settings):
    """The share of a domain's impressions that becomes samples. Kept ones weigh 1/share in the loss."""

    positive: float = Field(gt=0, le=1, description="of clicked impressions")
    negative: float = Field(gt=0, le=1, description="of those that were not clicked")


class Sampling(Settings):
    """Which impressions become samples."""

    seed: int
    natural: KeepRates
    ad: KeepRates


class Samples(Settings):
    """How samples are laid out for the ranks."""

    files_per_slice: int = Field(gt=0)


class Evaluation(Settings):
    """What a run compares."""

    methods: tuple[str, ...] = Field(min_length=1, description="those of a run; the first is compared with the others")
    bootstrap: int = Field(gt=0)


class Launching(Settings):
    """Where trainings run. None of it is part of a model's identity; the number of ranks is recorded with the model."""

    launcher: Literal["inline", "local", "spark"]
    world: Literal["auto", "horovod", "torch"] = Field(description="what joins the ranks")
    ranks: int = Field(gt=0, description="processes that train together, each with its share of the embedding")
    min_ranks: int | None = Field(default=None, gt=0, description="that resume when others die; null: the run fails")
    threads_per_rank: int = Field(gt=0)
    clocks: tuple[Every, ...] = Field(
        min_length=1, description="levels of these clocks are trained; those of others are taken as they stand"
    )
    keep_checkpoints: int = Field(
        default=2, gt=0, description="checkpoints of a training under way; the model itself stays"
    )
    restated: Literal["again", "keep"] = Field(
        default="again",
        description="models trained on days that have changed since: trained again, or only named",
    )

    @model_validator(mode="after")
    def _possible(self) -> Launching:
        if self.min_ranks is not None and self.min_ranks > self.ranks:
            raise ValueError(f"min_ranks is {self.min_ranks}, and there are {self.ranks} ranks: give at most that many")
        if self.launcher == "inline" and self.ranks != 1:
            raise ValueError(f"launcher inline is one rank, but ranks is {self.ranks}: set training.ranks to 1")
        return self


class Tracking(Settings):
    """Where the records of trainings go: MLflow's tracking server, and its model registry."""

    uri: str | None = Field(
        description="MLflow tracking URI; null: a SQLite file under storage.root or, where that is no local path,"
        " in the folder .ecdctr of the working directory"
    )
    experiment: str = Field(min_length=1)
    registry_uri: str | None = Field(default=None, description="of the model registry; null: that of uri")
    registered_model: str | None = Field(
        default=None,
        pattern=r"^[^/:'\"]+$",
        description="its name in the registry, catalog.schema.model in Unity Catalog; null: no model is registered",
    )
    system_metrics: bool = Field(default=True, description="processor, memory, disk and network while a model trains")

    @field_validator("uri", "registry_uri")
    @classmethod
    def _known(cls, uri: str | None) -> str | None:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9-]*)(\+\w+)?:", uri or "")
        if scheme and scheme[1] not in _MLFLOW:
            plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
            if scheme[1] not in plugins:
                raise ValueError(
                    f"{without_secrets(str(uri))}: unknown scheme {scheme[1]}; expected one of {', '.join(_MLFLOW)}"
                )
        return uri

    @model_validator(mode="after")
    def _three_parts(self) -> Tracking:
        name = self.registered_model
        if name and (self.registry_uri or "").startswith("databricks-uc") and name.count(".") != 2:
            raise ValueError(f"registered_model is {name}: Unity Catalog's names are catalog.schema.model")
        return self


# MLflow's own schemes; a plug-in may add others.
_MLFLOW = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc", "file")


class Demo(Settings):
    """The days that `ecdctr demo` predicts one by one."""

    first: dt.date = Field(description="the first of them")
    last: dt.date = Field(description="the last of them")


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
    streaming: Streaming
    training: Launching
    methods: dict[str, Method]
    evaluation: Evaluation
    tracking: Tracking
    synthetic: Synthetic | None
    demo: Demo | None

    @field_validator("methods", mode="before")
    @classmethod
    def _expanded(cls, nodes: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(nodes, Mapping):
            raise ValueError("expected methods by name, such as {mine: {like: ecdctr, title: mine}}")
        return likeness.expanded({name: node for name, node in nodes.items() if node is not None})

    @model_validator(mode="after")
    def _chosen(self) -> Config:
        for name in self.evaluation.methods:
            if name not in self.methods:
                raise ValueError(f"no method {name}; expected one of {', '.join(self.methods)}")
        return self

    @property
    def chosen(self) -> tuple[Method, ...]:
        """The methods of a run."""
        return tuple(self.methods[name] for name in self.evaluation.methods)

    @property
    def logs_id(self) -> str:
        """The identity of the canonical tables: a hash of the source and the calendar."""
        return identity(LOGS_FORMAT, source=self.source.identified_by, synthetic=self.synthetic, calendar=self.calendar)

    @property
    def data_set_id(self) -> str:
        """The identity of the samples: a hash of the logs and of every setting that can change a sample."""
        return identity(
            DATA_SET_FORMAT,
            logs=self.logs_id,
            labels=self.labels,
            features=self.features.model_dump(mode="json", exclude={"hot_rows"}),  # changes no sample
            sampling=self.sampling,
            samples=self.samples,
        )


def load_config(
    overlays: Sequence[str | Path] = (), overrides: Sequence[str] = (), methods: Sequence[str] = ()
) -> Config:
    """The configuration: conf/base.yaml and conf/methods/*.yaml, then the overlay files, then overrides
    `dotted.key=value`, then the `methods` to run, if any.

    An overlay that is no path to a file is looked up in conf/ (`movielens` means conf/movielens.yaml). Raises
    ConfigError with one line that names the key at fault, and for an unknown key the nearest known one.
    """
    try:
        shipped = {name: _loaded(file) for name, file in _settings(CONF / "methods").items()}
        files = [_loaded(path) for path in (CONF / "base.yaml", *(_overlay(overlay) for overlay in overlays))]
        chosen = {"evaluation": {"methods": list(methods)}} if methods else {}
        tree = _merged([OmegaConf.create({"methods": shipped}), *files, _dotlist(overrides), OmegaConf.create(chosen)])
        if missing := sorted(OmegaConf.missing_keys(tree)):
            raise ConfigError(f"configuration: {missing[0]} is not set: give it in an overlay or with --set")
        return Config.model_validate(OmegaConf.to_container(tree, resolve=True))
    except ValidationError as error:
        raise ConfigError(f"configuration: {_one_line(explained(error, Config))}") from error
    except ConfigError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error


def _merged(layers: Iterable[Any]) -> Any:
    """The layers merged into one tree; later ones win. One with features.inherit false drops the fields before it."""
    tree = OmegaConf.create()
    for layer in layers:
        if OmegaConf.select(layer, "features.inherit") is False:
            OmegaConf.update(tree, "features.fields", {}, merge=False)
        check_layer(OmegaConf.select(tree, "features.fields"), OmegaConf.select(layer, "features.fields"))
        likeness.check_layer(*(OmegaConf.select(each, "methods") for each in (tree, layer)))
        tree = OmegaConf.merge(tree, layer)
    return tree


def _settings(place: Traversable) -> dict[str, Traversable]:
    """The YAML files of a folder by their names without the ending, in order."""
    found = {file.name.removesuffix(".yaml"): file for file in place.iterdir() if file.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def _loaded(path: Traversable) -> Any:
    """The settings of a file. Raises ConfigError that names the file where it holds no mapping of settings."""
    try:
        with path.open(encoding="utf-8") as file:
            tree = OmegaConf.load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration: {path} cannot be read: {_one_line(error)}") from error
    if not OmegaConf.is_dict(tree) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"configuration: {path}: expected settings by name, such as `training: {{ranks: 2}}`")
    return tree


def _one_line(said: object) -> str:
    return " ".join(str(said).split())


def _overlay(name: str | Path) -> Traversable:
    for path in (Path(name), CONF / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(f"configuration: no file {name}; give a path or one of {', '.join(_settings(CONF))}")


def _dotlist(overrides: Sequence[str]) -> Any:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"configuration: --set {override!r}: expected dotted.key=value")
    return OmegaConf.from_dotlist(list(overrides))
