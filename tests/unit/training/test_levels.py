"""The three levels one after the other, each a job on Parquet samples, as the pipeline trains them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.training.checkpoint import Checkpoint
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from ecdctr_spark.training.trainer import train
from tests.made_up import ITEMS, ROWS, TRAIN, USERS, batch, ctr_spec, tiny_spec, write_samples

Levels = tuple[Path, dict[str, TrainingResult]]


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Levels:
    """Models tpm, cpm, actr (from CPM) and next (the day after) in a folder, and the results of their trainings."""
    folder = tmp_path_factory.mktemp("levels")
    units = [write_samples(folder / f"part-{number}.parquet", batch(100, number)) for number in range(4)]
    results: dict[str, TrainingResult] = {}

    def run(name: str, spec: ModelSpec, **changes: Any) -> None:
        job = parsed(
            TrainingJob,
            {
                "model_id": name,
                "model": spec,
                "train": replace(TRAIN, epochs=2, shuffle_rows=300),
                "units": units,
                "until": "2024-01-01",
                "output": str(folder / name),
                **changes,
            },
        )
        results[name] = train(job, ALONE, lambda rows, loss: None)

    run("tpm", tiny_spec(), keeps=("snapshot",))
    snapshots = keep_snapshot(folder)
    run("cpm", ctr_spec(memory="attention", months=("2000-05",)), snapshots=snapshots)
    actr = ctr_spec(memory="merged", rows=ROWS + 3)
    run("actr", actr, parent=str(folder / "cpm"), how="from")
    next_day = {"parent": str(folder / "actr"), "how": "continue"}
    run("next", ctr_spec(memory="merged", rows=ROWS + 9), **next_day | {"units": units[:1]})
    run("idle", actr, **next_day | {"units": ()})
    run("again", actr, parent=str(folder / "cpm"), how="from")
    return folder, results


def keep_snapshot(folder: Path) -> list[str]:
    """What the pipeline makes of the tiny model's rows: one file per entity, named by its partitions."""
    trained = pq.read_table(folder / "tpm" / "snapshots").to_pylist()
    files = []
    for entity, rows in (("user_id", USERS), ("item_id", ITEMS)):
        file = folder / f"model_id=2000-05/entity={entity}/part.parquet"
        file.parent.mkdir(parents=True)
        kept = pa.Table.from_pylist([row for row in trained if row["index"] in rows])
        assert len(kept) > 0
        pq.write_table(kept, file)
        files.append(str(file))
    return files


def test_every_row_is_trained_on_once_per_epoch(levels: Levels) -> None:
    rows = {name: result.rows for name, result in levels[1].items()}
    assert rows == {"tpm": 800, "cpm": 800, "actr": 800, "next": 200, "idle": 0, "again": 800}
    assert all(0 <= result.waiting < 1 for result in levels[1].values())


def test_each_model_says_what_it_was_made_from(levels: Levels) -> None:
    restored = {name: Checkpoint.open(Root.parse(levels[0] / name)).manifest.restored for name in levels[1]}
    parents = {name: report.parent for name, report in restored.items()}
    assert parents == {"tpm": None, "cpm": None, "actr": "cpm", "next": "actr", "idle": "actr", "again": "cpm"}
    assert restored["cpm"].taken_over == ("memory.table.weight",)
    assert restored["actr"].merged == ("memory.table.weight",)
    assert restored["next"].grown == ("fields.embedding.state", "fields.embedding.weight", "memory.table.weight")


def test_the_same_job_gives_the_same_files(levels: Levels) -> None:
    files = [Checkpoint.open(Root.parse(levels[0] / name)).manifest.files for name in ("actr", "again")]
    assert files[0] == files[1]


def test_a_day_without_rows_leaves_the_model_as_it_was(levels: Levels) -> None:
    files = [Checkpoint.open(Root.parse(levels[0] / name)).manifest.files for name in ("actr", "idle")]
    assert files[0] == files[1]
    assert levels[1]["idle"].loss == 0.0
