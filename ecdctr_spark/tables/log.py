"""The log of a Delta table: which of its entries a version is read from, whether these are as they were written, and
the removal of entries that no version needs.

A version is read from the newest checkpoint at or before it, a Parquet file, and the commits since.

Neither has a checksum: in a commit, which is JSON, a flipped digit may move a file to another day, and a flipped letter
may hide it. On a local disk each has a sidecar (checksums.py). delta-rs neither writes nor reads sidecars, so that is
done here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from msgspec import DecodeError, json

from ecdctr_spark.checksums import as_written, checksums, sidecar
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_HINT = "_last_checkpoint"  # the version of the newest checkpoint
_REMOVERS = 8  # of files at a time: an object store needs a while for each
_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\.parquet)")
_LEFT = re.compile(r"(\d{20})\.crc|\.(\d{20})\.json\.crc")  # beside a commit, and written after it


class _Entry(NamedTuple):
    """A commit or a checkpoint, and its version."""

    number: int
    name: str

    @property
    def checkpoint(self) -> bool:
        return self.name.endswith(".parquet")


def needed(names: Collection[str], version: int | None = None) -> list[str]:
    """Of the names of a log's files the entries that a version, by default the newest, is read from, oldest first."""
    entries = [entry for entry in _entries(names) if version is None or entry.number <= version]
    start = max((entry.number for entry in entries if entry.checkpoint), default=0)
    return [entry.name for entry in entries if entry.number >= start]


def lost(names: Collection[str], version: int | None = None) -> str | None:
    """The oldest commit that a version, by default the newest, is read from and that is not among the names of a log's
    files, though a later entry is, or what was written beside it."""
    entries = _entries(needed(names, version))
    left = (int(found[1] or found[2]) for name in names if (found := _LEFT.fullmatch(name)))
    seen = {entry.number for entry in entries}.union(number for number in left if version is None or number <= version)
    first = next((entry.number + 1 for entry in entries if entry.checkpoint), 0)
    held = {entry.name for entry in entries}
    due = (f"{number:020}.json" for number in range(first, max(seen, default=-1) + 1))
    return next((name for name in due if name not in held), None)


def verify(table: Root, version: int | None = None) -> None:
    """Raises ConfigError that names an entry of the version which is not there or differs from its sidecar, or a
    damaged `_last_checkpoint`. Those without a sidecar pass."""
    for log in _local(table):
        _verify_whole(log, version)
        _verify_entries(log / name for name in needed(_names(log), version))
        _verify_hint(log / _HINT)


def _verify_whole(log: Path, version: int | None) -> None:
    """Raises ConfigError that names a lost commit. A listing may be older than what another command has done since."""
    if lost(_names(log), version) and (name := lost(_names(log), version)):
        raise ConfigError(
            f"{log / name}: is missing, though what was written after it is there: restore it, or remove the folder of"
            " its table and run it again"
        )


def verify_history(table: Root) -> None:
    """Raises ConfigError as `verify` does, for any version that the log still has."""
    for log in _local(table):
        _verify_entries(log / entry.name for entry in _entries(_names(log)))


def _verify_entries(entries: Iterable[Path]) -> None:
    for entry in entries:
        with suppress(FileNotFoundError):  # an old entry, removed meanwhile
            if as_written(entry, entry.read_bytes()) is False:
                raise ConfigError(
                    f"{entry}: damaged: it differs from its checksums in {sidecar(entry).name}: restore it"
                )


def add_sidecars(table: Root) -> None:
    """Writes the sidecars of entries of the newest version that have none, each after those of the files that it adds.
    Removes those of files that are no more, and that of `_last_checkpoint`, which delta-rs may have replaced."""
    for log in _local(table):
        for entry in (log / name for name in needed(_names(log))):
            if not sidecar(entry).exists():
                added = _added(entry.read_bytes()) if entry.suffix == ".json" else []
                for file in [*(log.parent / name for name in added), entry]:
                    with suppress(FileNotFoundError):  # removed meanwhile
                        Root.parse(sidecar(file)).write_bytes(checksums(file.read_bytes()))
        for old in log.glob(".*.crc"):
            entry = log / old.name[1:-4]
            if entry.name == _HINT or not entry.exists():
                old.unlink(missing_ok=True)


def _added(commit: bytes) -> list[str]:
    """The files that a commit adds to its table, relative to that."""
    actions = map(json.decode, commit.splitlines())
    return [unquote(action["add"]["path"]) for action in actions if "add" in action]


def _verify_hint(hint: Path) -> None:
    """Raises ConfigError where `_last_checkpoint`, if there is one, names no checkpoint. Readers cannot open a table
    with a damaged one, and need none."""
    with suppress(FileNotFoundError):
        try:
            version = int(json.decode(hint.read_bytes())["version"])
        except (DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            version = -1
        if not any(hint.parent.glob(f"{version:020}.checkpoint*.parquet")):
            raise ConfigError(f"{hint}: damaged: it names no checkpoint: remove it, as a table is read without it too")


def oldest(table: Root) -> int:
    """The oldest version that the log still has."""
    starts = (entry for entry in _entries(table.at("_delta_log").files()) if entry.number == 0 or entry.checkpoint)
    return min((entry.number for entry in starts), default=0)


def shorten(table: Root, first: int) -> None:
    """Removes the entries, and what belongs to them, that no version from `first` on is read from."""
    log = table.at("_delta_log")
    names = log.files()
    start = max((entry.number for entry in _entries(names) if entry.checkpoint and entry.number <= first), default=0)
    old = [name for name in names if (found := re.match(r"\.?(\d{20})\.", name)) and int(found[1]) < start]
    with ThreadPoolExecutor(_REMOVERS) as removers:
        list(removers.map(lambda name: log.at(name).remove(), old))


def _entries(names: Collection[str]) -> list[_Entry]:
    return sorted(_Entry(int(found[1]), name) for name in names if (found := _ENTRY.fullmatch(name)))


def _local(table: Root) -> Iterator[Path]:
    """The table's log, if it is on a local disk."""
    if table.path is not None and not table.in_volume:
        yield table.path / "_delta_log"


def _names(log: Path) -> list[str]:
    return [file.name for file in log.glob("*")]
