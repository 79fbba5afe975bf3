"""Identity: a short hash of what a stored object was made from, and of nothing else.

Logs are identified by their source and the calendar; a data set by its logs and every setting that can change a sample;
a model by its level's own settings, the data set, the days it read and the models it was made from. So two
configurations share one root without touching each other, methods share every model that is equal, and changing one
setting recomputes only what depends on it. The alternatives:

- Names that people choose, of a run or an experiment. Each must be changed by hand with every setting. Once forgotten,
  a model trained with other settings is taken for the one that was asked for.
- Time stamps or run numbers. Every object is unique, so nothing is shared, and a killed run cannot find what it made.
- Hashes of the content. The object must exist before it can be looked up, so nothing can be planned. Checkpoints and
  exports are checked against content hashes as well (storage.py), but are not found by them.

What it asks of the reader:

- What can change a result must be in the hash; what cannot must stay out. Ranks, the path of the root, launcher and
  code version are recorded beside a model, not hashed: they say how it was made.
- Code changes daily and rarely changes a result, so a format number below stands for it. Raise it by hand when the code
  makes something else of the same inputs.
- A changed setting makes a new object beside the old one. A title, or `like` in place of equal settings, makes none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ecdctr_spark.settings.base import Settings, plain

LOGS_FORMAT = 1
DATA_SET_FORMAT = 1
MODEL_FORMAT = 1
_DIGITS = 8


def identity(form: int, **made_from: Any) -> str:
    """Eight hex digits of the SHA-256 of a format number and of what an object was made from: settings, texts, dates
    and identities, by name."""
    text = json.dumps({"format": form, **made_from}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)  # a date
