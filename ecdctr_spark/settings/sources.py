"""Where raw logs come from: files, a published data set, or a synthetic platform."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ecdctr_spark.settings.base import Settings


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
    folder: str | None = Field(default=None, description="where the files of kind kuairand or taobao were unpacked")
    ad_tab: int | None = Field(default=None, description="of kuairand: the tab that is the ad domain; null: AD videos")


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
