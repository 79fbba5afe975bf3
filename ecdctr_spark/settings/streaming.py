"""How ranks read samples. None of it is part of a model's identity: every reader gives the same batches."""

from __future__ import annotations

from typing import Literal

from ecdctr_spark.settings.base import Settings

Reader = Literal["auto", "petastorm", "arrow"]


class Streaming(Settings, frozen=True):
    """See conf/base.yaml."""

    reader: Reader
