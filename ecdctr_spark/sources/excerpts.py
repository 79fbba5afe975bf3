"""Excerpts of raw logs, read without Spark: what `ecdctr init` judges names, times and values by.

A small folder is read whole. Of a larger one _FILES files are looked at, the first and the last by name among them,
and of each its beginning and, where that can be reached, its end: logs are usually in the order of time.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.folders import Found, Unusable, check_names, listed, with_content
from ecdctr_spark.sources.raw import first_line
from ecdctr_spark.sources.streams import COMPRESSED
from ecdctr_spark.sources.values import NOTHING
from ecdctr_spark.storage import Root

_FILES = 16  # of a large folder
_MOST_FILES = 400  # of a small one
_BYTES = 16 << 20  # of text, of all files together
_ROWS = 20_000  # of Parquet, from each end of a file
_SHRINKS = 5  # times that compressed logs are smaller, about
_DELIMITERS = (",", ";", "\t", "|")
_LEGACY = ("gb18030", "shift_jis", "euc_kr", "cp1252")  # encodings to try for text that is not UTF-8

Form = Literal["csv", "json", "parquet", "delta"]
Kind = Literal["text", "timestamp", "local time", "nested"]


class Values(NamedTuple):
    """Values of a column, in order, as text; None where one is missing. `kind` is text unless the files say more."""

    kind: Kind
    values: Sequence[str | None]


class Excerpt(NamedTuple):
    """Rows of a folder, by column. `whole`: they are all that it holds; `total`: how many it holds, estimated by bytes
    where they are not all. `delimiter` and `encodings` are of csv: None where there is one column only; the encodings
    that its text may be in, none where it is ASCII."""

    place: str
    form: Form
    files: int
    rows: int
    whole: bool
    total: int
    columns: Mapping[str, Values]
    delimiter: str | None = None
    encodings: Mapping[str, str] = {}
    escapes: bool = False


class _Piece(NamedTuple):
    """The bytes of a file's lines from its beginning and from its end, and whether they are all of it."""

    found: Found
    head: bytes
    tail: bytes
    whole: bool


def excerpt(place: Root) -> Excerpt:
    """Rows of a folder of Parquet, csv, JSON-lines or Delta files, or of one such file.

    Raises ConfigError that names the folder or file where there is none, or none that can be read.
    """
    try:
        if place.at("_delta_log").exists():
            return _of_delta(place)
        if not place.exists():
            raise Unusable(f"{place}: no such folder")
        found = with_content(listed(place)).read
        if not found:
            raise Unusable(f"{place}: the folder is empty")
        chosen = _spread(found)
        if _starts(chosen[0].file, 4) == b"PAR1":
            return _of_parquet(place, found, chosen)
        return _of_text(place, found, chosen)
    except (Unusable, OSError, UnicodeError, pa.ArrowException, DeltaError, csv.Error) as error:
        line = first_line(error)
        raise ConfigError(line if str(place) in line else f"{place} cannot be read: {line}") from error


def _spread(found: Sequence[Found]) -> list[Found]:
    """All files of a small folder, or _FILES of them, evenly over their order."""
    small = len(found) <= _MOST_FILES and sum(one.size for one in found) <= _BYTES
    if small or len(found) <= _FILES:
        return list(found)
    return [found[number * (len(found) - 1) // (_FILES - 1)] for number in range(_FILES)]


def _starts(file: Root, size: int) -> bytes:
    with file.stream() as stream:
        content: bytes = stream.read(size)
    return content


def _of_delta(place: Root) -> Excerpt:
    """That of the Parquet files of the current version. Columns that it partitions by are folders' names."""
    address = place.addresses.deltalake
    current = {uri.split(f"{address}/", 1)[-1] for uri in DeltaTable(address, None, place.storage_options).file_uris()}
    found = [one for one in listed(place).read if str(one.file).removeprefix(f"{place}/") in current]
    if not found:
        raise Unusable(f"{place}: the table is empty")
    return _of_parquet(place, found, _spread(found))._replace(form="delta")


def _of_parquet(place: Root, found: Sequence[Found], chosen: Sequence[Found]) -> Excerpt:
    columns: list[tuple[Mapping[str, Values], int]] = []
    total = 0
    for one in chosen:
        with one.file.open() as opened:
            file = pq.ParquetFile(opened)
            total += file.metadata.num_rows
            for group in sorted({0, file.num_row_groups - 1}) if file.num_row_groups else ():
                batch = next(file.iter_batches(_ROWS, row_groups=[group]), None)
                if batch is not None:
                    rows = pa.Table.from_batches([batch])
                    columns.append((_with_folders(_arrow_values(rows), one, rows.num_rows), rows.num_rows))
    read = sum(rows for _, rows in columns)
    whole = len(chosen) == len(found) and read == total
    total = round(total * sum(one.size for one in found) / sum(one.size for one in chosen))
    return Excerpt(str(place), "parquet", len(found), read, whole, total, _joined(columns))


def _arrow_values(table: Any) -> dict[str, Values]:
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return {field.name: _arrow_column(field.type, table.column(field.name)) for field in table.schema}


def _arrow_column(kind: Any, column: Any) -> Values:
    if pa.types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if pa.types.is_timestamp(kind):
        values = column.cast(pa.timestamp("us", kind.tz), safe=False).to_pylist()
        return Values("timestamp" if kind.tz else "local time", [value and value.isoformat() for value in values])
    if pa.types.is_date(kind):
        return Values("local time", [value and value.isoformat() for value in column.to_pylist()])
    return Values("nested" if pa.types.is_nested(kind) else "text", [_plain(value) for value in column.to_pylist()])


def _of_text(place: Root, found: Sequence[Found], chosen: Sequence[Found]) -> Excerpt:
    pieces = [_piece(one, _BYTES // len(chosen)) for one in chosen]
    encodings = _encodings(place, pieces)
    encoding = next(iter(encodings), "utf-8-sig")
    json_lines = _decoded(pieces[0].head, encoding).lstrip().startswith("{")
    form: Form = "json" if json_lines else "csv"
    whole = len(chosen) == len(found) and all(piece.whole for piece in pieces)
    if json_lines:
        rows = [(piece.found, _json_columns(_decoded(piece.head + piece.tail, encoding))) for piece in pieces]
        columns = _joined([(_with_folders(values, one, count), count) for one, (values, count) in rows])
        rows_read = sum(count for _, (_, count) in rows)
        total = _total(rows_read, pieces, found)
        return Excerpt(str(place), form, len(found), rows_read, whole, total, columns)
    texts = [_decoded(piece.head + piece.tail, encoding) for piece in pieces]
    delimiter = _delimiter(texts)
    escapes = any('\\"' in text for text in texts)
    tables = [_csv_columns(one.file, text, delimiter or ",", escapes) for one, text in zip(chosen, texts, strict=True)]
    read = [(_with_folders(values, one, count), count) for one, (values, count) in zip(chosen, tables, strict=True)]
    rows_read = sum(count for _, count in read)
    total = _total(rows_read, pieces, found)
    return Excerpt(str(place), form, len(found), rows_read, whole, total, _joined(read), delimiter, encodings, escapes)


def _piece(found: Found, budget: int) -> _Piece:
    """Whole lines. The end of a compressed file cannot be reached without reading all of it."""
    head = _starts(found.file, budget + 1)
    if len(head) <= budget:
        return _Piece(found, head, b"", True)
    if found.file.name.endswith(COMPRESSED):
        return _Piece(found, head[: head.rfind(b"\n") + 1], b"", False)
    head = head[: budget // 2]
    with found.file.open() as opened:
        opened.seek(found.size - budget // 2)
        tail: bytes = opened.read(budget // 2)
    return _Piece(found, head[: head.rfind(b"\n") + 1], tail[tail.find(b"\n") + 1 :], False)


def _total(rows: int, pieces: Sequence[_Piece], found: Sequence[Found]) -> int:
    """The rows of all files, of which the pieces have `rows`, by bytes of text."""
    read = sum(len(piece.head) + len(piece.tail) for piece in pieces)
    share = sum(one.size for one in found) / max(1, sum(piece.found.size for piece in pieces))
    return round(rows * share * sum(_text_size(piece) for piece in pieces) / max(1, read))


def _text_size(piece: _Piece) -> int:
    if piece.whole:
        return len(piece.head)
    return piece.found.size * (_SHRINKS if piece.found.file.name.endswith(COMPRESSED) else 1)


def _encodings(place: Root, pieces: Sequence[_Piece]) -> dict[str, str]:
    """The encodings that all pieces may be in, each with a line as it reads then; none for ASCII."""
    content = b"".join(piece.head + piece.tail for piece in pieces)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return {"utf-16": ""}
    if b"\0" in content:
        raise Unusable(f"{place} holds neither text nor Parquet nor a Delta table")
    if content.isascii():
        return {}
    strange = next(line for line in content.splitlines() if not line.isascii())
    found = {}
    # Two bytes make a character of Chinese, Japanese and Korean text, and a western one stands alone between letters.
    legacy = _LEGACY if re.search(rb"[\x80-\xff]{2}", content) else ("cp1252",)
    for encoding in ("utf-8", *legacy):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        found[encoding] = strange.decode(encoding).strip()[:60]
        if encoding == "utf-8":
            return found
    if not found:
        raise Unusable(f"{place} is text in none of the encodings utf-8, utf-16, {', '.join(_LEGACY)}")
    return found


def _decoded(content: bytes, encoding: str) -> str:
    return content.decode("utf-8-sig" if encoding == "utf-8" else encoding)


def _delimiter(texts: Iterable[str]) -> str | None:
    """The one that splits the most lines into as many fields as their header, more than one."""
    scores: Counter[str] = Counter()
    for text in texts:
        for delimiter in _DELIMITERS:
            rows = csv.reader(io.StringIO(text[: 1 << 16]), delimiter=delimiter)
            header = next(rows, [])
            if len(header) > 1:
                scores[delimiter] += (len(header) - 1) * sum(len(row) == len(header) for row in rows) + len(header)
    return scores.most_common(1)[0][0] if scores else None


def _csv_columns(file: Root, text: str, delimiter: str, escapes: bool) -> tuple[dict[str, Values], int]:
    escape = {"doublequote": False, "escapechar": "\\"} if escapes else {}
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, **escape)  # type: ignore[arg-type]
    header = [name.strip() for name in next(rows, [])]
    check_names([(file, [name for name in header if name])])
    good = [row for row in rows if len(row) == len(header)]
    columns = zip(header, zip(*good, strict=True), strict=True) if good else ((name, ()) for name in header)
    return {name: Values("text", [_plain(value) for value in values]) for name, values in columns if name}, len(good)


def _json_columns(text: str) -> tuple[dict[str, Values], int]:
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            row = json.loads(line, parse_float=str, parse_int=str) if line.strip() else None
        except ValueError:  # ingest quarantines it
            continue
        if isinstance(row, dict):
            rows.append(_flat(row))
    keys = dict.fromkeys(key for row in rows for key in row)
    nested = {key for row in rows for key, value in row.items() if isinstance(value, list)}
    columns = {
        key: Values("nested" if key in nested else "text", [_plain(row.get(key)) for row in rows]) for key in keys
    }
    return columns, len(rows)


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A row whose nested objects are columns by their path."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def _with_folders(columns: Mapping[str, Values], found: Found, rows: int) -> dict[str, Values]:
    """The columns, and those that folders name=value of the file add."""
    parts = str(found.file).split("/")
    values = {name: unquote(parts[-above - 1].split("=", 1)[1]) for above, name in found.folders}
    return {**{name: Values("text", [_plain(value)] * rows) for name, value in values.items()}, **columns}


def _joined(read: Sequence[tuple[Mapping[str, Values], int]]) -> dict[str, Values]:
    """The rows of several files one after another; a column that a file lacks is missing there."""
    kinds: dict[str, set[Kind]] = defaultdict(set)
    for name, values in (column for columns, _ in read for column in columns.items()):
        kinds[name].add(values.kind)
    return {
        name: Values(
            next(iter(found)) if len(found) == 1 else "text",
            [value for columns, rows in read for value in (columns[name].values if name in columns else [None] * rows)],
        )
        for name, found in kinds.items()
    }


def _plain(value: Any) -> str | None:
    """A value as the text that ingest makes of it, None where it is missing."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None if value != value else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Decimal | dt.time | dt.timedelta | int | list | dict):
        return str(value)
    text = str(value).strip()
    return None if not text or text.lower() in NOTHING else text
