"""Reads samples by Petastorm. The only import of petastorm.

Petastorm 0.12 with pyarrow 14 reads local files only, so files of an object store are staged on this machine's disk.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import pyarrow as pa
from petastorm import make_batch_reader

from ecdctr_spark.pages import opened
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Columns
from ecdctr_spark.streaming.staging import staged

# Petastorm 0.12 uses the dataset reader that pyarrow calls legacy, and pyarrow warns at each call.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")


def read(files: Sequence[str], names: Sequence[str]) -> list[Columns]:
    """The columns `names` of Parquet files given by their URIs: those of each row group, in the order of the files.
    Raises OSError where a file cannot be fetched, ConfigError where it is missing or damaged, or lacks a column."""
    with staged(files) as urls:
        for file, url in zip(files, urls, strict=True):
            with opened(Root.parse(file), names, Root(url.removeprefix("file://"))):
                pass  # its bytes are as they were written
        try:
            with make_batch_reader(
                urls,
                schema_fields=[f"^{re.escape(name)}$" for name in names],
                workers_count=1,  # more would return row groups in any order
                shuffle_row_groups=False,
            ) as reader:
                return [group._asdict() for group in reader]
        except (pa.ArrowException, OSError) as error:  # what is damaged has no checksum
            raise ConfigError(f"{files[0]}, or a file read with it: damaged: restore it ({error})") from error
