"""A configuration is checked as a whole before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.settings.base import ConfigError


def test_base_configuration_is_complete_and_valid(config: Config) -> None:
    assert config.tpm.snapshots == 3
    assert {feature.name for feature in config.features.ids} >= {"user_id", "item_id"}


def test_an_unknown_key_is_an_error_that_names_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"unknown key trian.*training"):
        load_config(overrides=["trian.batch_size=3"])


def test_an_unknown_nested_key_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"cpm\.train\.batchsize.*nearest known one is cpm\.train\.batch_size"):
        load_config(overrides=["cpm.train.batchsize=3"])


def test_a_value_of_the_wrong_type_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"training\.ranks"):
        load_config(overrides=["training.ranks=two"])


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dotted\.key=value"):
        load_config(overrides=["training.ranks"])


def test_overrides_win_over_overlays_and_overlays_over_base(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("training: {ranks: 3, threads_per_rank: 5}\n")
    config = load_config([overlay], ["training.ranks=4"])
    assert (config.training.ranks, config.training.threads_per_rank) == (4, 5)


def test_a_missing_overlay_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no file nowhere\.yaml.*base"):
        load_config(["nowhere.yaml"])


def test_yaml_that_would_build_objects_is_refused(tmp_path: Path) -> None:
    overlay = tmp_path / "evil.yaml"
    overlay.write_text("storage: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError):
        load_config([overlay])


def test_a_feature_declared_twice_is_refused(config: Config) -> None:
    fields = [feature.model_dump() for feature in config.features.fields]
    with pytest.raises(ValidationError, match="user_id is declared twice"):
        type(config.features)(out_of_vocabulary=2, fields=[*fields, fields[0]])


def test_fingerprint_changes_with_what_changes_a_model_and_with_nothing_else(config: Config) -> None:
    elsewhere = load_config(overrides=["storage.root=/somewhere", "training.launcher=inline"])
    another = load_config(overrides=["cpm.train.epochs=2"])
    assert elsewhere.fingerprint() == config.fingerprint() != another.fingerprint()
    assert another.samples_fingerprint() == config.samples_fingerprint()


def test_an_unknown_time_zone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"calendar\.timezone: .*the nearest known one is Europe/Berlin"):
        load_config(overrides=["calendar.timezone=Europe/Berlinn"])


@pytest.mark.parametrize("root", ["/data/#1", "/data/50%", "/data?"])
def test_a_root_that_cannot_be_part_of_a_url_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.root"):
        load_config(overrides=[f"storage.root={root}"])


@pytest.mark.parametrize(("root", "named"), [("gopher://x", "unknown scheme gopher"), ("dbfs:/tmp/x", "only volumes")])
def test_a_root_of_another_scheme_is_refused_at_start_up(root: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"storage\.root: .*{named}") as refused:
        load_config(overrides=[f"storage.root={root}"])
    assert "\n" not in str(refused.value)


def test_more_ranks_to_go_on_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training: .*min_ranks is 3, and there are 2 ranks"):
        load_config(overrides=["training.ranks=2", "training.min_ranks=3"])
