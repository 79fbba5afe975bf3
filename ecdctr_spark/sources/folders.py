"""The files below a folder of raw logs: which are read, which are left out, and the values that their folders name.

Files at any depth are read, and the values of folders such as `shop=007/` are text. Names that begin with _ or a dot
are left out, and reported. All csv files must have the same columns; Parquet and JSON may gain some. Compressed csv and
JSON is gzip or bzip2. A file that cannot be read as it is (a quote that is not closed, a truncated archive, a column
that is there twice) is refused by name before the work starts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.sources.raw import CORRUPT
from ecdctr_spark.storage import Root

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_GLOB = re.compile(r"([{}\[\]*?\\])")
_BESIDE = re.compile(r"_SUCCESS|_(started|committed)_.*|\..*\.crc")  # what Spark writes beside its files, no rows
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_HIDDEN = (CORRUPT, "_metadata")  # columns of Spark's own, that a column of the data would hide


class Unusable(ValueError):
    """A file that cannot be read as what it should be; the text names it."""


class Found(NamedTuple):
    """A file that is read. `folders` are those of the form name=value that it lies in: how many levels above the file,
    and the name."""

    file: Root
    size: int
    folders: tuple[tuple[int, str], ...] = ()


class Listing(NamedTuple):
    """The files below a folder that are read, and the names of the others, each with the reason."""

    read: tuple[Found, ...]
    left_out: tuple[tuple[str, str], ...]


def listed(place: Root) -> Listing:
    """All files below a folder, at any depth, or the file itself. Names that start with _ or a dot are left out, as by
    Spark and Hadoop, which write such files beside the data."""
    size = place.size()
    if size is not None:
        return Listing((Found(place, size),), ())
    sizes = {name: size for name, size in place.sizes().items() if not _BESIDE.fullmatch(name.rsplit("/", 1)[-1])}
    reasons = {name: reason for name in sizes if (reason := _reason(name))}
    read = [Found(place.at(name), size, _folders(name)) for name, size in sizes.items() if name not in reasons]
    return Listing(tuple(read), tuple(reasons.items()))


def with_content(listing: Listing) -> Listing:
    """The listing without files of 0 bytes, which hold no row of csv or JSON."""
    empty = [(str(found.file), "the file is empty") for found in listing.read if found.size == 0]
    return Listing(tuple(found for found in listing.read if found.size), (*listing.left_out, *empty))


def alike(files: Iterable[Found]) -> list[tuple[Found, ...]]:
    """The files in groups whose folders have the same names."""
    groups: dict[tuple[tuple[int, str], ...], list[Found]] = defaultdict(list)
    for found in files:
        groups[found.folders].append(found)
    return [tuple(group) for group in groups.values()]


def paths(files: Iterable[Found]) -> list[str]:
    """The files as Spark names them. It takes some characters of a name for a pattern."""
    return [_GLOB.sub(r"\\\1", found.file.addresses.spark) for found in files]


def with_folders(frame: DataFrame, folders: Sequence[tuple[int, str]]) -> DataFrame:
    """A frame as Spark has read it, with the values of its folders name=value as text: Spark would make numbers and
    dates of them. A column that the files hold themselves stays as it is."""
    own = {name.lower() for name in frame.columns}
    parts = F.split("_metadata.file_path", "/")
    values = [_value(F.element_at(parts, -above - 1)).alias(name) for above, name in folders if name.lower() not in own]
    return frame.select("*", *values) if values else frame


def check_names(files: Iterable[tuple[object, Sequence[str]]]) -> None:
    """Raises Unusable for a column that occurs twice in a file, or in two files with other capitals: Spark takes both
    for one. Also for a name that Spark uses itself."""
    first: dict[str, tuple[str, object]] = {}
    for file, names in files:
        for number, name in enumerate(names):
            if name.lower() in _HIDDEN:
                raise Unusable(f"{file} has a column {name}, a name that Spark uses itself; rename it")
            if name in names[:number]:
                raise Unusable(f"{file} has the column {name} twice; rename or remove one")
            spelled, where = first.setdefault(name.lower(), (name, file))
            if spelled != name:
                beside = "" if where == file else f" of {where}"
                raise Unusable(f"{file} has a column {name} beside {spelled}{beside}: they differ only in capitals")


def _reason(name: str) -> str | None:
    for part in name.split("/"):
        if part[0] == "." or (part[0] == "_" and "=" not in part):
            return f"{part} begins with {part[0]}"
    return "it is still being copied" if name.endswith("._COPYING_") else None


def _folders(name: str) -> tuple[tuple[int, str], ...]:
    above = enumerate(reversed(name.split("/")[:-1]), start=1)
    pairs = [(level, part) for level, part in above if part.find("=") > 0]
    for _, part in pairs:
        if _NO_ESCAPE.search(part):
            raise Unusable(f"{name}: the folder {part} has a % that starts no escape; write it as %25")
    return tuple((level, unquote(part.split("=", 1)[0])) for level, part in reversed(pairs))


def _value(folder: Column) -> Column:
    """The value of a folder name=value. Spark gives the path with escapes, and those of the folder's name were there
    before."""
    value = _unescaped(_unescaped(F.regexp_replace(folder, "^[^=]*=", "")))
    return F.when(value != _NO_VALUE, value)


def _unescaped(text: Column) -> Column:
    return F.url_decode(F.replace(text, F.lit("+"), F.lit("%2B")))  # a plus is a plus, not a space
