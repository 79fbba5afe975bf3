"""Raw logs on S3 are looked at before Spark reads them, as local ones are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from ecdctr_spark.config import load_config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import files
from ecdctr_spark.sources.published import folder_of
from ecdctr_spark.storage import Root
from tests.configured import FIRST_DAY


def refused(form: str, root: Root) -> str:
    config = load_config([], [FIRST_DAY, f"source.format={form}", f"source.impressions={root}"])
    with pytest.raises(ConfigError) as error:
        files.read(None, config)  # type: ignore[arg-type]  # it is refused before Spark is asked
    return str(error.value)


def test_a_file_that_is_no_parquet_is_named(s3_root: Root, tmp_path: Path) -> None:
    pd.DataFrame({"event_id": ["e"]}).to_parquet(tmp_path / "good.parquet")
    s3_root.at("1.parquet").put(tmp_path / "good.parquet")
    s3_root.at("2.parquet").write_bytes(b"PAR1")
    s3_root.at("_SUCCESS").write_bytes(b"")
    assert f"{s3_root}/2.parquet is not a complete Parquet file" in refused("parquet", s3_root)


def test_a_csv_file_of_another_header_is_named(s3_root: Root) -> None:
    s3_root.at("1.csv.gz").write_bytes(gzip.compress(b"event_id,user_id\n"))
    s3_root.at("2.csv").write_bytes(b"user_id,event\n")
    assert f"{s3_root}/2.csv has the columns user_id, event unlike {s3_root}/1.csv.gz" in refused("csv", s3_root)


def test_an_unknown_scheme_is_refused_by_name() -> None:
    assert "unknown scheme gopher" in refused("csv", Root("gopher://x"))


def test_a_published_data_set_may_lie_there_too(s3_root: Root) -> None:
    config = load_config([], [FIRST_DAY, f"source.folder={s3_root}"])
    with pytest.raises(ConfigError, match="no such folder"):
        folder_of(config, "somewhere")
    s3_root.at("log_1.csv").write_bytes(b"user_id\n")
    assert folder_of(config, "somewhere") == s3_root
