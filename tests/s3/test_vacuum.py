"""A vacuum on an object store."""

from __future__ import annotations

import pyarrow as pa
from deltalake import write_deltalake

from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned


def test_a_vacuum_removes_files_alone_where_folders_are_objects_too(s3_root: Root) -> None:
    place = s3_root.at("table")
    for number in range(3):
        rows = pa.table({"id": [number], "day": ["2024-01-01"]})
        options = {"mode": "overwrite", "partition_by": ["day"], "storage_options": place.storage_options}
        write_deltalake(place.addresses.deltalake, rows, **options)
    place._system().create_dir(place.at("day=2024-01-01").addresses.arrow)
    assert pinned.vacuum(place, hours=0, keep={1}) == 1
    kept = {file.path for version in (1, 2) for file in pinned.files(place, version, {})}
    assert {str(place.at(name)) for name in place.files() if name.endswith(".parquet")} == kept
