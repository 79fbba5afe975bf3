"""The typed configuration tree over conf/*.yaml, and the only place where settings are read.

conf/base.yaml and conf/methods/ hold every setting with its reason; an overlay names what differs. Later ones win:
base < overlays in their order < dotted overrides (`training.ranks=4`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from msgspec import Meta
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ecdctr_spark.events import without_secrets
from ecdctr_spark.methods import likeness
from ecdctr_spark.methods.identity import DATA_SET_FORMAT, LOGS_FORMAT, identity
from ecdctr_spark.methods.method import Every, Method
from ecdctr_spark.settings.base import (
    ConfigError,
    NotNegative,
    NotNegativeNumber,
    Positive,
    PositiveNumber,
    PositiveShare,
    SettingError,
    Settings,
    about,
    check_timezone,
    parsed,
    plain,
)
from ecdctr_spark.settings.features import Features, check_layer
from ecdctr_spark.settings.sources import Source, Synthetic
from ecdctr_spark.settings.streaming import Streaming
from ecdctr_spark.shipped import folder
from ecdctr_spark.storage import Root

if TYPE_CHECKING:
    from importlib.abc import Traversable

CONF = folder("conf")
_ABSENT = object()
_EARLIEST = dt.date(1990, 1, 1)  # as of event times (sources/values.py)
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_MEMORY = 512 << 20  # Spark refuses a JVM that has less than 450 MB to give


class Storage(Settings, frozen=True):
    """Where everything that is made is stored."""

    root: Annotated[str, Meta(pattern=r"^[^#?%]+\Z"), about("a path or a URI; the ranks open it as part of a URL")]
    catalog: Annotated[
        Annotated[str, Meta(pattern=r"^[^.`\s/]+\.[^.`\s/]+\Z")] | None,
        about("catalog.schema in which the tables get names"),
    ] = None
    wait_minutes: Annotated[float, Meta(ge=0), about("how long a command waits for another that writes here")] = 0.0
    keep_days: Annotated[NotNegativeNumber, about("for which `ecdctr tidy` keeps versions of tables readable")] = 7.0
    keep_models_days: Annotated[
        Annotated[int, Meta(ge=1)] | None, about("for which `ecdctr tidy` keeps a level's models; null: for ever")
    ] = None
    tidy_days: Annotated[PositiveNumber | None, about("after which a run tidies; null: only `ecdctr tidy` does")] = 7.0

    def __post_init__(self) -> None:
        try:
            root = Root.parse(self.root)
        except ConfigError as error:
            raise SettingError(f"root: {error}") from error
        if self.catalog and root.in_volume:
            raise ValueError(
                f"catalog is {self.catalog}, but root is {self.root}, and Unity Catalog has no tables in volumes:"
                " put root in an external location (s3://, abfss://, gs://), or leave catalog out"
            )


class Spark(Settings, frozen=True):
    """The session that is started where none is there."""

    master: str
    driver_memory: Annotated[str, Meta(pattern=r"^[1-9][0-9]*[kmgtKMGT]\Z"), about("as the JVM's -Xmx: 4g, 900m")]

    def __post_init__(self) -> None:
        if int(self.driver_memory[:-1]) * _UNITS[self.driver_memory[-1].lower()] < _LEAST_MEMORY:
            raise SettingError(f"driver_memory: {self.driver_memory}: Spark does not start with less than 512m")


class Calendar(Settings, frozen=True):
    """What a day is, and the first one."""

    timezone: str
    first_day: Annotated[dt.date, about("the first day of raw logs that is used")]

    def __post_init__(self) -> None:
        check_timezone(self.timezone)
        if self.first_day < _EARLIEST:
            raise SettingError(f"first_day: {self.first_day}: expected {_EARLIEST} or later")


class Labels(Settings, frozen=True):
    """When an impression counts as clicked, and until when that may change."""

    attribution_hours: Positive
    maturity_days: Annotated[NotNegative, about("days before a new one that are ingested and built again with it")]


class Limit(Settings, frozen=True):
    """The range of a measure; null is no limit."""

    low: Annotated[float | None, about("below it, a run stops before it trains")] = None
    high: Annotated[float | None, about("above it, likewise")] = None


class Limits(Settings, frozen=True):
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


class Check(Settings, frozen=True, kw_only=True):
    """The health check of the data before anything is trained on them."""

    known_days: Annotated[Positive, about("days of natural logs in which an ad's user or item counts as known")]
    least_rows: Annotated[NotNegative, about("measures of fewer rows are reported, not judged")]
    without_logs: Annotated[tuple[dt.date, ...], about("days that have no logs and need none")] = ()
    limits: Limits


class KeepRates(Settings, frozen=True):
    """The share of a domain's impressions that becomes samples. Kept ones weigh 1/share in the loss."""

    positive: Annotated[PositiveShare, about("of clicked impressions")]
    negative: Annotated[PositiveShare, about("of those that were not clicked")]


class Sampling(Settings, frozen=True):
    """Which impressions become samples."""

    seed: int
    natural: KeepRates
    ad: KeepRates


class Samples(Settings, frozen=True):
    """How samples are laid out for the ranks."""

    files_per_slice: Positive


class Evaluation(Settings, frozen=True):
    """What a run compares."""

    methods: Annotated[
        tuple[str, ...], Meta(min_length=1), about("those of a run; the first is compared with the others")
    ]
    bootstrap: Positive


class Launching(Settings, frozen=True, kw_only=True):
    """Where trainings run. None of it is part of a model's identity; the number of ranks is recorded with the model."""

    launcher: Literal["inline", "local", "spark"]
    world: Annotated[Literal["auto", "horovod", "torch"], about("what joins the ranks")]
    ranks: Annotated[
        Positive | Literal["auto"], about("processes that train together, each with its share of the embedding")
    ]
    min_ranks: Annotated[Positive | None, about("that resume when others die; null: the run fails")] = None
    threads_per_rank: Positive
    clocks: Annotated[
        tuple[Every, ...],
        Meta(min_length=1),
        about("levels of these clocks are trained; those of others are taken as they stand"),
    ]
    keep_checkpoints: Annotated[Positive, about("checkpoints of a training under way; the model itself stays")] = 2
    restated: Annotated[
        Literal["again", "keep"], about("models trained on days that have changed since: trained again, or only named")
    ] = "again"

    def __post_init__(self) -> None:
        if self.ranks == "auto":
            if self.launcher == "spark":
                raise ValueError("launcher spark takes no ranks auto: set training.ranks to the slots they may have")
            return
        if self.min_ranks is not None and self.min_ranks > self.ranks:
            raise ValueError(f"min_ranks is {self.min_ranks}, and there are {self.ranks} ranks: give at most that many")
        if self.launcher == "inline" and self.ranks != 1:
            raise ValueError(f"launcher inline is one rank, but ranks is {self.ranks}: set training.ranks to 1 or auto")


class Tracking(Settings, frozen=True):
    """Where the records of trainings go: MLflow's tracking server, and its model registry."""

    uri: Annotated[
        str | None,
        about(
            "MLflow tracking URI; null: a SQLite file under storage.root or, where that is no local path,"
            " in the folder .ecdctr of the working directory"
        ),
    ]
    experiment: Annotated[str, Meta(min_length=1)]
    registry_uri: Annotated[str | None, about("of the model registry; null: that of uri")] = None
    registered_model: Annotated[
        Annotated[str, Meta(pattern=r"^[^/:'\"]+\Z")] | None,
        about("its name in the registry, catalog.schema.model in Unity Catalog; null: no model is registered"),
    ] = None
    system_metrics: Annotated[bool, about("processor, memory, disk and network while a model trains")] = True

    def __post_init__(self) -> None:
        _check_scheme("uri", self.uri or "")
        _check_scheme("registry_uri", self.registry_uri or "")
        name = self.registered_model
        if name and (self.registry_uri or "").startswith("databricks-uc") and name.count(".") != 2:
            raise ValueError(f"registered_model is {name}: Unity Catalog's names are catalog.schema.model")


def _check_scheme(key: str, uri: str) -> None:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9-]*)(\+\w+)?:", uri)
    if scheme is None or scheme[1] in _MLFLOW:
        return
    if scheme[1] not in {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}:
        raise SettingError(
            f"{key}: {without_secrets(uri)}: unknown scheme {scheme[1]}; expected one of {', '.join(_MLFLOW)}"
        )


# MLflow's own schemes; a plug-in may add others.
_MLFLOW = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc", "file")


class Demo(Settings, frozen=True):
    """The days that `ecdctr demo` predicts one by one."""

    first: Annotated[dt.date, about("the first of them")]
    last: Annotated[dt.date, about("the last of them")]


class Config(Settings, frozen=True):
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

    def __post_init__(self) -> None:
        for name in self.evaluation.methods:
            if name not in self.methods:
                raise ValueError(f"no method {name}; expected one of {', '.join(self.methods)}")
        self._check_renamed()

    def _check_renamed(self) -> None:
        """Raises ValueError where a feature reads a column by the name that it has in the logs, and has no more."""
        columns = self.source.columns
        holders = {"context": columns.impressions, "user": columns.users, "item": columns.items}
        for source in self.features.sources:
            holder, _, attribute = source.partition(".")
            for name, own in holders.get(holder, {}).items():
                if own == attribute != name:
                    raise ValueError(
                        f"a feature reads {source}, but source.columns takes {own} for {name}, so every row would lack"
                        f" it: read {name}, or drop the feature"
                    )

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
            features=plain(self.features, "hot_rows"),  # changes no sample
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
        layers = [OmegaConf.create({"methods": shipped}), *files, _dotlist(overrides), OmegaConf.create(chosen)]
        tree = _merged(layers)
        if missing := _missing(layers):
            keys = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            raise ConfigError(f"configuration: {keys} not set (???): give it in an overlay or with --set")
        return typed(OmegaConf.to_container(tree, resolve=True))
    except SettingError as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error
    except ConfigError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error


def typed(tree: Any) -> Config:
    """The configuration of a plain tree, such as that of a dump. Raises ValueError that names the key at fault."""
    return parsed(Config, {**tree, "methods": likeness.expanded(tree["methods"])})


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


def _missing(layers: Iterable[Any]) -> list[str]:
    """The keys that a layer leaves open (???) and no later one gives. OmegaConf would take what an earlier one says."""
    missing: set[str] = set()
    for layer in layers:
        given = {key for key in missing if OmegaConf.select(layer, key, default=_ABSENT) is not _ABSENT}
        missing = (missing - given) | OmegaConf.missing_keys(layer)
    return sorted(missing)


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
