"""What a stored object was made from, and nothing else, as a short hash: its identity.

Logs are identified by where they come from and the calendar; a data set by its logs and every setting that can change a
sample; a model by its level's own settings, the data set, the days it read and the models it was made from. So two
configurations lie under one root without touching each other, methods share what is equal, and changing one setting
makes anew only what depends on it. A name that people choose (a file's, a run's) would have to be changed by hand with
every change of a setting; a hash cannot be forgotten.

Ranks, paths of the root, launcher and code version are recorded beside a model and are not part of its identity: they
say how it was made. Since code changes daily, and mostly changes no result, a format number stands for it: it is raised
by hand when the code makes something else of the same inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

LOGS_FORMAT = 1
DATA_SET_FORMAT = 1
MODEL_FORMAT = 1
_DIGITS = 8


def identity(form: int, **made_from: Any) -> str:
    """Eight hex digits over a format number and what an object was made from (settings, texts, dates, identities)."""
    text = json.dumps({"format": form, **made_from}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)  # a date
