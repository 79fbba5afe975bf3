"""A manifest alone says which weights a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.training.manifests import digest
from tests.made_up import network, tiny_spec
from tests.unit.training.test_checkpoint import changed, published


def test_the_digest_is_of_the_weights_not_of_the_place_or_the_time(tmp_path: Path) -> None:
    published(tmp_path / "here", tiny_spec())
    published(tmp_path / "there", tiny_spec())
    manifest = tmp_path / "there" / "manifest.json"
    changed(manifest, lambda members: members["result"].update(seconds=2.0))
    published(tmp_path / "other", network(tiny_spec(), seed=4))
    here, there, other = (digest(Root.parse(tmp_path / name)) for name in ("here", "there", "other"))
    assert here == there != other
    with pytest.raises(ConfigError, match="nowhere"):
        digest(Root.parse(tmp_path / "nowhere"))
