"""Where raw logs come from: files, a published data set, or a synthetic platform."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ecdctr_spark.settings.base import Settings, Timezone

# A date in a folder's name: 2024-01-05, 20240105, 2024/01/05, 2024-01 or year=2024/month=1/day=5.
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}-{_MONTH}(?:-{_DAY})?|{_YEAR}/{_MONTH}/{_DAY}|{_YEAR}{_MONTH}{_DAY})(?!\d)"
    r"|(?<![^/])year=\d{4}(?:/month=\d{1,2})?(?:/day=\d{1,2})?(?![^/])"
)
_FOLDERS = ("impressions", "clicks", "users", "items", "folder")


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


class Source(Settings):
    """Where raw logs come from. `kind` is an entry of sources.SOURCES; format to items apply to kind `files`."""

    kind: str
    format: Literal["parquet", "csv", "json", "delta", "table"] = "parquet"
    csv: Csv = Csv()
    impressions: str | None = None
    clicks: str | None = None
    users: str | None = None
    items: str | None = None
    timezone: Timezone = Field(default="UTC", description="of times that name no zone")
    time_unit: Literal["auto", "seconds", "milliseconds", "microseconds", "yyyymmdd"] = Field(
        default="auto", description="of times that are numbers; auto: by magnitude, of years 1990 to 2100"
    )
    repeated_days: int = Field(default=7, ge=0, description="days within which an event that comes again is one event")
    folder: str | None = Field(default=None, description="where the files of kind kuairand or taobao were unpacked")
    ad_tab: int | None = Field(default=None, description="of kuairand: the tab that is the ad domain; null: AD videos")

    @property
    def identified_by(self) -> dict[str, Any]:
        """What tells the source from others: its settings, without the dates in the names of folders.

        A log with one folder per day (drop/2024-01-05, then drop/2024-01-06) is one source, whose days are ingested one
        after another. Another folder's name is another source.
        """
        settings = self.model_dump(mode="json")
        named = {name: settings[name] for name in _FOLDERS if settings[name] is not None}
        return {**settings, **{name: _DATE.sub("DATE", folder) for name, folder in named.items()}}


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
