"""Removes old models: each night leaves one, and few are needed again.

A model is kept for storage.keep_models_days after its date, counted to the newest of its level, and as long as a model
that is kept was made from it. Of the others the checkpoint, the export and the snapshot go. Their rows stay in the
registry, marked as removed: what was made from them is still known to be current. Where one is needed after all, it is
trained again, to the same weights.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Iterator, Sequence

from ecdctr_spark.events import event
from ecdctr_spark.pipeline.registry import now
from ecdctr_spark.serving.predictor import SIGNATURE
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import MODELS, SNAPSHOTS
from ecdctr_spark.tables.small import Row, among, read_rows, replace_rows
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.manifests import MANIFEST

_DAY = 86400.0  # seconds
_FOLDERS = {"models": MANIFEST, "exports": SIGNATURE}  # have a folder for each model, with this manifest


def remove_models(store: Store, keep_days: int | None) -> int:
    """Removes the models that are too old, of all data sets under the root, and what a removal that was killed has
    left. Returns how many are too old."""
    rows = read_rows(store.root, MODELS)
    names = [row["model_id"] for row in old(rows, keep_days)] if keep_days is not None else []
    if names:
        marked = [{**row, "removed": now()} for row in rows if row["model_id"] in names]
        replace_rows(store.root, MODELS, marked, among("model_id", names))
        event("models removed", models=len(names))
    gone = [row for row in rows if row["removed"] or row["model_id"] in names]
    _remove_files(store.root, {row["model_id"] for row in gone})
    for data_set in sorted({row["data_set"] for row in gone}):
        _remove_snapshots(store.of("data_set", data_set), [row["model_id"] for row in gone])
    return len(names)


def remove_unfinished(root: Root, keep_days: float) -> None:
    """Removes what trainings and exports that were killed have left and what was not written to for so long since:
    checkpoints under way, drafts, and what was to be replaced. The tables that a training would resume with are gone as
    well."""
    written = {place: max(place.times().values(), default=0.0) for place in _unfinished(root)}
    stale = [place for place, moment in written.items() if moment < time.time() - keep_days * _DAY]
    for place in stale:
        place.remove()
    if stale:
        event("unfinished models removed", folders=len(stale))


def _unfinished(root: Root) -> Iterator[Root]:
    """The folders that are beside those of models: their names have an ending."""
    yield from (place for folder in _FOLDERS for place in root.at(folder).list() if "." in place.name)


def old(rows: Sequence[Row], keep_days: int) -> list[Row]:
    """Of rows of MODELS those that are not kept."""
    there = [row for row in rows if row["removed"] is None]
    newest: dict[tuple[str, str], dt.date] = {}
    for row in there:
        chain = row["data_set"], row["level"]
        newest[chain] = max(row["date"], newest.get(chain, row["date"]))
    kept = [row for row in there if (newest[row["data_set"], row["level"]] - row["date"]).days <= keep_days]
    needed = {row["model_id"] for row in kept}.union(*(row["parents"] for row in kept))
    return [row for row in there if row["model_id"] not in needed]


def _remove_files(root: Root, names: Collection[str]) -> None:
    for folder, manifest in _FOLDERS.items():
        for place in root.at(folder).list():
            if place.name.partition(".")[0] in names:  # a draft has an ending
                place.withdraw(manifest)


def _remove_snapshots(store: Store, names: Sequence[str]) -> None:
    place = store.place(SNAPSHOTS)
    if pinned.exists(place) and pinned.files(place, pinned.version(place), {"model_id": names}):
        store.replace(SNAPSHOTS, store.read(SNAPSHOTS).limit(0), among("model_id", names))
