"""Where raw logs come from: files, a published data set, or a synthetic platform."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ecdctr_spark.settings.base import Settings, Timezone

# A date in a folder's name: 2024-01-05, 20240105, 2024/01/05, 2024-01 or year=2024/month=1/day=5.
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}-{_MONTH}(?:-{_DAY})?|{_YEAR}/{_MONTH}/{_DAY}|{_YEAR}{_MONTH}{_DAY})(?!\d)"
    r"|(?<![^/])year=\d{4}(?:/month=\d{1,2})?(?:/day=\d{1,2})?(?![^/])"
)
LOGS = ("impressions", "ads", "clicks", "users", "items")
_FOLDERS = (*LOGS, "folder")


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise ValueError(f"unknown encoding {encoding}; expected utf-8, latin-1, utf-16, gb18030, ...") from error


_Character = Annotated[str, Field(min_length=1, max_length=1)]


class Csv(Settings):
    """How csv files are written. `quote` null: they do not quote. `escape` is what stands before a quote within a
    quoted field: the quote itself, or a backslash as Spark writes it."""

    delimiter: _Character = ","
    quote: _Character | None = '"'
    escape: _Character = '"'
    encoding: Annotated[str, AfterValidator(_known)] = "utf-8"


def _each_once(names: dict[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for canonical, own in names.items():
        if own in given:
            raise ValueError(f"the column {own} is given for {given[own]} and for {canonical}: give it for one of them")
        given[own] = canonical
    return names


_Names = Annotated[dict[str, str], AfterValidator(_each_once)]


class Columns(Settings):
    """What the columns of each log are called there: by the name that they have in ecdctr_spark, or that a feature
    gives them, their own name. A name with dots may lead into nested values (`user.id`).

    Each log apart, since one name may mean different things in two of them, and a name that a log lacks is an error.
    """

    impressions: _Names = Field(default={})
    ads: _Names = Field(default={})
    clicks: _Names = Field(default={})
    users: _Names = Field(default={})
    items: _Names = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _by_log(cls, columns: Any) -> Any:
        if isinstance(columns, Mapping) and (other := [str(name) for name in columns if name not in LOGS]):
            raise ValueError(
                f"{other[0]} is none of the logs {', '.join(LOGS)}; give columns by log, such as"
                " {impressions: {event_id: request_id}}"
            )
        return columns


def _as_logged(value: Any) -> Any:
    """A number or a truth value as the text that logs have for it."""
    return str(value).lower() if isinstance(value, bool | int) else value


class Domains(Settings):
    """The values of the column `domain` that stand for natural content and for ads, beside `natural` and `ad`."""

    natural: tuple[Annotated[str, BeforeValidator(_as_logged)], ...] = ()
    ad: tuple[Annotated[str, BeforeValidator(_as_logged)], ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Domains:
        natural, ad = {"natural", *self.natural}, {"ad", *self.ad}
        if both := sorted(natural & ad):
            raise ValueError(f"{both[0]} stands for both natural and ad: give it for one of them")
        return self


class Source(Settings):
    """Where raw logs come from. `kind` is an entry of sources.SOURCES; format to domains apply to kind `files`."""

    kind: str
    format: Literal["parquet", "csv", "json", "delta", "table"] = "parquet"
    csv: Csv = Csv()
    impressions: str | None = None
    ads: str | None = Field(default=None, description="impressions of ads logged apart; the others are then natural")
    clicks: str | None = None
    users: str | None = None
    items: str | None = None
    columns: Columns = Columns()
    domains: Domains = Domains()
    timezone: Timezone = Field(default="UTC", description="of times that name no zone")
    time_unit: Literal["auto", "seconds", "milliseconds", "microseconds", "yyyymmdd"] = Field(
        default="auto", description="of times that are numbers; auto: by magnitude, of years 1990 to 2100"
    )
    repeated_days: int = Field(default=7, ge=0, description="days within which an event that comes again is one event")
    folder: str | None = Field(default=None, description="where the files of kind kuairand or taobao were unpacked")
    ad_tab: int | None = Field(default=None, description="of kuairand: the tab that is the ad domain; null: AD videos")

    @model_validator(mode="after")
    def _possible(self) -> Source:
        named = {"ads": self.ads, "columns": self.columns != Columns(), "domains": self.domains != Domains()}
        if self.kind != "files" and (given := [name for name, value in named.items() if value]):
            raise ValueError(f"{given[0]} is only for kind files: {self.kind} has columns and domains of its own")
        if self.ads is not None and self.domains != Domains():
            raise ValueError("ads already says which impressions are ads: leave out domains, or ads")
        if self.ads is None and self.columns.ads:
            raise ValueError("columns.ads names columns, but ads is not set: give the folder, or leave them out")
        return self

    @property
    def identified_by(self) -> dict[str, Any]:
        """What tells the source from others: its settings, without the dates in the names of folders.

        A log with one folder per day (drop/2024-01-05, then drop/2024-01-06) is one source, whose days are ingested one
        after another. Another folder's name is another source. Columns are left out where none is renamed, and so on:
        the logs are the same as before these settings existed.
        """
        unset = {name for name in ("ads", "columns", "domains") if getattr(self, name) == getattr(_PLAIN, name)}
        settings = self.model_dump(mode="json", exclude=unset)
        named = {name: settings[name] for name in _FOLDERS if settings.get(name) is not None}
        return {**settings, **{name: _DATE.sub("DATE", folder) for name, folder in named.items()}}


_PLAIN = Source(kind="files")


class Synthetic(Settings):
    """A synthetic platform (sources/synthetic.py). Strengths are in units of the logit of a click."""

    seed: int
    days: int = Field(gt=0)
    impressions_per_day: int = Field(gt=0)
    users: int = Field(gt=0, description="at the start")
    items: int = Field(gt=0, description="at the start")
    births: float = Field(ge=0, description="users and items added per day, as a share of those at the start")
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
    drift_days: float = Field(gt=0, description="days in which a taste turns into an unrelated one")
    weekly: float = Field(ge=0, description="interests that last for a week")
    seasonal: float = Field(ge=0, description="interests that last for a season and return with it")
    season_days: int = Field(gt=0)
    position_bias: float = Field(ge=0, description="from the first position to the last")
    late_clicks: float = Field(ge=0, le=1, description="share of clicks that come 1 to 49 hours later")
    duplicates: float = Field(ge=0, le=1)
    malformed: float = Field(ge=0, le=1)

    @property
    def events(self) -> int:
        """The number of impressions of all days."""
        return self.days * self.impressions_per_day
