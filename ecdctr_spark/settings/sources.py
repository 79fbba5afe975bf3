"""Where raw logs come from: files, a published data set, or a synthetic platform."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import force_setattr

from ecdctr_spark.settings.base import (
    NotNegative,
    NotNegativeNumber,
    Positive,
    PositiveNumber,
    SettingError,
    Settings,
    Share,
    about,
    check_timezone,
    plain,
)

# A date in a folder's name: 2024-01-05, 20240105, 2024/01/05, 2024-01 or year=2024/month=1/day=5.
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}-{_MONTH}(?:-{_DAY})?|{_YEAR}/{_MONTH}/{_DAY}|{_YEAR}{_MONTH}{_DAY})(?!\d)"
    r"|(?<![^/])year=\d{4}(?:/month=\d{1,2})?(?:/day=\d{1,2})?(?![^/])"
)
LOGS = ("impressions", "ads", "clicks", "users", "items")
_FOLDERS = (*LOGS, "folder")


_Character = Annotated[str, Meta(min_length=1, max_length=1)]


class Csv(Settings, frozen=True):
    """How csv files are written. `quote` null: they do not quote. `escape` is what stands before a quote within a
    quoted field: the quote itself, or a backslash as Spark writes it."""

    delimiter: _Character = ","
    quote: _Character | None = '"'
    escape: _Character = '"'
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            force_setattr(self, "encoding", codecs.lookup(self.encoding).name)
        except LookupError as error:
            expected = "utf-8, latin-1, utf-16, gb18030, ..."
            raise SettingError(f"encoding: unknown encoding {self.encoding}; expected {expected}") from error


class Columns(Settings, frozen=True):
    """What the columns of each log are called there: by the name that they have in ecdctr_spark, or that a feature
    gives them, their own name. A name with dots may lead into nested values (`user.id`).

    Each log apart, since one name may mean different things in two of them, and a name that a log lacks is an error.
    """

    impressions: Mapping[str, str] = {}
    ads: Mapping[str, str] = {}
    clicks: Mapping[str, str] = {}
    users: Mapping[str, str] = {}
    items: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        for log in LOGS:
            given: dict[str, str] = {}
            for canonical, own in getattr(self, log).items():
                if own in given:
                    both = f"{given[own]} and for {canonical}"
                    raise SettingError(f"{log}: the column {own} is given for {both}: give it for one of them")
                given[own] = canonical

    @classmethod
    def unknown_key(cls, key: str, where: str) -> str:
        by_log = "give columns by log, such as {impressions: {event_id: request_id}}"
        return f"{where}: {key} is none of the logs {', '.join(LOGS)}; {by_log}"


_Logged = str | int | bool  # a number or a truth value becomes the text that logs have for it


class Domains(Settings, frozen=True):
    """The values of the column `domain` that stand for natural content and for ads, beside `natural` and `ad`."""

    natural: tuple[_Logged, ...] = ()
    ad: tuple[_Logged, ...] = ()

    def __post_init__(self) -> None:
        natural, ad = (
            tuple(value if isinstance(value, str) else str(value).lower() for value in values)
            for values in (self.natural, self.ad)
        )
        force_setattr(self, "natural", natural)
        force_setattr(self, "ad", ad)
        if both := sorted({"natural", *natural} & {"ad", *ad}):
            raise ValueError(f"{both[0]} stands for both natural and ad: give it for one of them")


class Source(Settings, frozen=True):
    """Where raw logs come from. `kind` is an entry of sources.SOURCES; format to domains apply to kind `files`."""

    kind: str
    format: Literal["parquet", "csv", "json", "delta", "table"] = "parquet"
    csv: Csv = Csv()
    impressions: str | None = None
    ads: Annotated[str | None, about("impressions of ads logged apart; the others are then natural")] = None
    clicks: str | None = None
    users: str | None = None
    items: str | None = None
    columns: Columns = Columns()
    domains: Domains = Domains()
    timezone: Annotated[str, about("of times that name no zone")] = "UTC"
    time_unit: Annotated[
        Literal["auto", "seconds", "milliseconds", "microseconds", "yyyymmdd"],
        about("of times that are numbers; auto: by magnitude, of years 1990 to 2100"),
    ] = "auto"
    repeated_days: Annotated[NotNegative, about("days within which an event that comes again is one event")] = 7
    folder: Annotated[str | None, about("where the files of kind kuairand or taobao were unpacked")] = None
    ad_tab: Annotated[int | None, about("of kuairand: the tab that is the ad domain; null: AD videos")] = None

    def __post_init__(self) -> None:
        check_timezone(self.timezone)
        named = {"ads": self.ads, "columns": self.columns != Columns(), "domains": self.domains != Domains()}
        if self.kind != "files" and (given := [name for name, value in named.items() if value]):
            raise ValueError(f"{given[0]} is only for kind files: {self.kind} has columns and domains of its own")
        if self.ads is not None and self.domains != Domains():
            raise ValueError("ads already says which impressions are ads: leave out domains, or ads")
        if self.ads is None and self.columns.ads:
            raise ValueError("columns.ads names columns, but ads is not set: give the folder, or leave them out")

    @property
    def identified_by(self) -> dict[str, Any]:
        """What tells the source from others: its settings, without the dates in the names of folders.

        A log with one folder per day (drop/2024-01-05, then drop/2024-01-06) is one source, whose days are ingested one
        after another. Another folder's name is another source. Columns are left out where none is renamed, and so on:
        the logs are the same as before these settings existed.
        """
        unset = {name for name in ("ads", "columns", "domains") if getattr(self, name) == getattr(_PLAIN, name)}
        settings = plain(self, *unset)
        named = {name: settings[name] for name in _FOLDERS if settings.get(name) is not None}
        return {**settings, **{name: _DATE.sub("DATE", folder) for name, folder in named.items()}}


_PLAIN = Source(kind="files")


class Synthetic(Settings, frozen=True):
    """A synthetic platform (sources/synthetic.py). Strengths are in units of the logit of a click."""

    seed: int
    days: Positive
    impressions_per_day: Positive
    users: Annotated[Positive, about("at the start")]
    items: Annotated[Positive, about("at the start")]
    births: Annotated[NotNegativeNumber, about("users and items added per day, as a share of those at the start")]
    newest_share: Annotated[Share, about("share of the traffic that goes to the newest")]
    activity: Annotated[float, Meta(ge=1), about("the greater, the more events a few users have")]
    popularity: Annotated[float, Meta(ge=1), about("the greater, the more events a few items have")]
    categories: Positive
    advertisers: Positive
    ad_share: Annotated[float, Meta(gt=0, lt=1)]
    natural_base: Annotated[float, about("logit of a natural click, all else equal")]
    ad_base: Annotated[float, about("logit of an ad's click, all else equal")]
    correlation: Annotated[Share, about("of taste in ads with taste in natural content")]
    quality: NotNegativeNumber
    taste: NotNegativeNumber
    drift_days: Annotated[PositiveNumber, about("days in which a taste turns into an unrelated one")]
    weekly: Annotated[NotNegativeNumber, about("interests that last for a week")]
    seasonal: Annotated[NotNegativeNumber, about("interests that last for a season and return with it")]
    season_days: Positive
    position_bias: Annotated[NotNegativeNumber, about("from the first position to the last")]
    late_clicks: Annotated[Share, about("share of clicks that come 1 to 49 hours later")]
    duplicates: Share
    malformed: Share

    @property
    def events(self) -> int:
        """The number of impressions of all days."""
        return self.days * self.impressions_per_day
