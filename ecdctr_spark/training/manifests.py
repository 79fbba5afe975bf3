"""Which weights a published checkpoint holds, by its manifest alone, without torch."""

from __future__ import annotations

import json

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sha256, unsealed

MANIFEST = "manifest.json"


def identity(root: Root) -> str:
    """The SHA-256 of a checkpoint's manifest, which holds the hashes of its files. Raises ConfigError where there is no
    manifest."""
    return sha256(content(root))


def digest(root: Root) -> str:
    """A hash of the files of a published checkpoint: the same weights have the same one, wherever and whenever they
    were trained. Raises ConfigError where there is no manifest."""
    files = json.loads(content(root))["files"]
    return sha256(json.dumps({name: file["sha256"] for name, file in files.items()}, sort_keys=True).encode())


def content(root: Root) -> bytes:
    """The manifest. Raises ConfigError where there is none, or where it is damaged."""
    if not root.at(MANIFEST).exists():
        raise ConfigError(f"checkpoint {root}: no {MANIFEST}; expected a published model: train it again")
    return unsealed(root.at(MANIFEST))
