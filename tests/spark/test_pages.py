"""A flipped bit in a table's file is found, or changes nothing that is read: by both readers, and by Spark."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecdctr_spark import failures
from ecdctr_spark.checksums import checksums, sidecar
from ecdctr_spark.pages import opened
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.streaming import Reader
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming import batches
from ecdctr_spark.streaming.shards import Columns
from tests.flips import with_flipped_bit

NAMES, ROWS = ("id", "number", "packed"), 500
FLIPS = 60


@pytest.fixture(scope="module")
def written(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file as Spark writes samples: integers with a dictionary, numbers without one, bytes."""
    folder = tmp_path_factory.mktemp("pages")
    id_, number = (F.col("id") % 7).cast("int"), F.rand(seed=1).cast("float")
    packed = F.sha2(F.col("id").cast("string"), 256).cast("binary")
    frame = spark.range(ROWS).select(id_.alias("id"), number.alias("number"), packed.alias("packed"))
    frame.coalesce(1).write.option("parquet.enable.dictionary#number", "false").parquet(f"file:{folder}/t")
    (file,) = folder.glob("t/*.parquet")
    return file.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a file is written without the checksum beside it by which Hadoop knows its own on a local disk."""
    return tmp_path / "part.parquet"


def flipped(content: bytes, number: int) -> Iterator[bytes]:
    """The content with one bit flipped, each time another one."""
    chance = random.Random(1)
    for _ in range(number):
        yield with_flipped_bit(content, chance.randrange(8 * len(content)))


def outcomes(read: Callable[[Path], Columns], written: bytes, file: Path) -> dict[str, int]:
    """How many flips are found, and how many of the others change what is read."""
    file.write_bytes(written)
    before, counts = read(file), {"found": 0, "changed": 0, "the same": 0}
    for damaged in flipped(written, FLIPS):
        file.write_bytes(damaged)
        try:
            after = read(file)
        except (ConfigError, OSError, ValueError) as error:
            assert str(file) in str(error) or not isinstance(error, ConfigError)
            counts["found"] += 1
            continue
        equal = all(name in after and np.array_equal(after[name], before[name]) for name in NAMES)
        counts["the same" if equal else "changed"] += 1
    return counts


@pytest.mark.parametrize("reader", ["arrow", "petastorm"])
def test_a_flipped_bit_is_never_read_as_another_value(written: bytes, file: Path, reader: Reader) -> None:
    found = outcomes(lambda file: batches.reading(reader)([str(file)], NAMES)[0], written, file)
    assert found["changed"] == 0
    assert found["found"] > FLIPS / 2


def test_without_a_look_at_the_checksums_some_are(written: bytes, file: Path) -> None:
    def read(file: Path) -> Columns:
        table = pq.read_table(file)
        return {name: table[name].to_numpy() for name in table.column_names}

    assert outcomes(read, written, file)["changed"] > FLIPS / 10


def test_the_pages_of_those_columns_that_are_read_are_verified(written: bytes, file: Path) -> None:
    file.write_bytes(written)
    group = pq.ParquetFile(file).metadata.row_group(0)
    for chunk in map(group.column, range(group.num_columns)):
        name = chunk.path_in_schema
        file.write_bytes(with_flipped_bit(written, 8 * (chunk.data_page_offset + 40)))
        with opened(Root.parse(file), {*NAMES} - {name}) as content:
            assert content.metadata.num_rows == ROWS
        with (
            pytest.raises(ConfigError, match=rf"{file}: .* \(column {name}: a page differs from its checksum\)"),
            opened(Root.parse(file), [name]),
        ):
            pass


def test_a_file_of_a_writer_that_gives_no_checksums_is_read_as_it_is(file: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3]}), file)
    with opened(Root.parse(file), ["id"]) as content:
        assert content.read()["id"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("reader", ["arrow", "petastorm"])
def test_with_the_checksums_that_hadoop_writes_beside_it_a_flipped_bit_in_any_byte_is_found(
    spark: SparkSession, tmp_path: Path, reader: Reader
) -> None:
    spark.range(300).coalesce(1).write.parquet(f"file:{tmp_path}/t")
    (file,) = tmp_path.glob("t/*.parquet")
    content = file.read_bytes()
    assert sidecar(file).read_bytes() == checksums(content)
    read = batches.reading(reader)
    assert read([str(file)], ["id"])[0]["id"].tolist() == list(range(300))
    for changed in (file, sidecar(file)):
        written = changed.read_bytes()
        for place in range(len(written)):
            changed.write_bytes(with_flipped_bit(written, 8 * place + place % 8))
            with pytest.raises(ConfigError, match=f"{file}: .*differs from the checksums"):
                read([str(file)], ["id"])
        changed.write_bytes(written)


def test_a_file_without_a_column_is_named(written: bytes, file: Path) -> None:
    file.write_bytes(written)
    for reader in ("arrow", "petastorm"):
        with pytest.raises(ConfigError, match=f"{file}: no column speed: another configuration has made it"):
            batches.reading(reader)([str(file)], ["id", "speed"])


def test_spark_verifies_what_it_reads(spark: SparkSession, written: bytes, file: Path) -> None:
    def rows() -> list[object]:
        return list(spark.read.schema("id int, number float, packed binary").parquet(f"file:{file}").collect())

    file.write_bytes(written)
    expected, found = rows(), 0
    for damaged in flipped(written, FLIPS // 2):
        file.write_bytes(damaged)
        try:
            assert rows() == expected
        except AssertionError:
            raise
        except Exception as error:
            line, code = failures.explain(error)
            assert code == 2, line
            found += 1
    assert found > FLIPS / 4
