"""A configuration is checked as a whole before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark.config import Config, load_config, typed
from ecdctr_spark.settings.base import ConfigError, plain
from tests.configured import FIRST_DAY


def test_base_configuration_is_complete_and_valid(config: Config) -> None:
    assert config.methods["ecdctr"].serves == "actr"
    assert {feature.name for feature in config.features.ids} >= {"user_id", "item_id"}


def test_an_unknown_key_is_an_error_that_names_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"unknown key trian.*training"):
        load_config([], [FIRST_DAY, "trian.batch_size=3"])


def test_an_unknown_nested_key_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"unknown key training\.rank; the nearest known one is ranks"):
        load_config([], [FIRST_DAY, "training.rank=3"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.ranks=two", "training.ranks: 'two' is no whole number: give one, such as 2, or auto"),
        ("training.ranks=0", "training.ranks: 0 is too small: expected more than 0, or auto"),
        ("training.ranks=", "training.ranks: null is no whole number: give one, such as 2, or auto"),
        ("training=3", "training: 3 is no mapping: give its keys, such as {key: value}"),
        ("labels.maturity_days=-1", "labels.maturity_days: -1 is too small: expected at least 0"),
        ("sampling.seed=1.5", "sampling.seed: 1.5 is no whole number: give one, such as 2"),
        ("sampling.ad.positive=much", "sampling.ad.positive: 'much' is no number: give one, such as 0.5"),
        ("sampling.ad.positive=2", "sampling.ad.positive: 2 is too large: expected at most 1.0"),
        ("calendar.first_day=today", "calendar.first_day: 'today' is no day: give one as YYYY-MM-DD"),
        ("source.format=xml", "source.format: 'xml' is unknown: expected 'parquet', 'csv', 'json', 'delta' or 'table'"),
        ("source.clicks=3", "source.clicks: 3 is no text: give one, in quotes if it looks like a number"),
        ("features.inherit=maybe", "features.inherit: 'maybe' is neither true nor false: give one of them"),
        ("evaluation.methods=ecdctr", "evaluation.methods: 'ecdctr' is no list: give one, such as [a, b]"),
        ("evaluation.methods=[]", "evaluation.methods: [] is empty: give at least 1"),
        ("demo.last=2024-01-01", "demo.first: is missing: set it"),
        ("methods=5", "methods: 5 is no mapping: give its keys, such as {key: value}"),
        ("methods.ecdctr=5", "methods.ecdctr: 5 is no mapping: give its keys, such as {key: value}"),
        ("methods.ecdctr.levels=5", "methods.ecdctr.levels: 5 is no mapping: give its keys, such as {key: value}"),
        ("methods.ecdctr.levels.actr.train.epochs=0",
         "methods.ecdctr.levels.actr.train.epochs: 0 is too small: expected more than 0"),  # ads_only takes it over
        ("spark.driver_memory=64m", "spark.driver_memory: 64m: Spark does not start with less than 512m"),
        ("spark.driver_memory=500000k", "spark.driver_memory: 500000k: Spark does not start with less than 512m"),
        ("calendar.first_day=0204-01-01", "calendar.first_day: 0204-01-01: expected 1990-01-01 or later"),
        ("spark.driver_memory=4gb", "spark.driver_memory: '4gb' is not of the form ^[1-9][0-9]*[kmgtKMGT]$"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_key_and_what_is_expected(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config([], [FIRST_DAY, setting])
    assert str(refused.value) == f"configuration: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", r"mine\.yaml cannot be read: .*line 2"),
        (b"- a\n- b\n", r"mine\.yaml: expected settings by name"),
        (b"3: x\n", r"mine\.yaml: expected settings by name"),
        (b"42\n", r"mine\.yaml cannot be read"),
        (b"\xff\xfe\xe9: 1\n", r"mine\.yaml cannot be read"),
        (b"training: {ranks: 1}\ntraining: {ranks: 2}\n", r"mine\.yaml cannot be read: .*duplicate key training"),
        (b"storage: !!python/object/apply:os.system ['true']\n", r"mine\.yaml cannot be read: .*tag"),
        (b"source: ${nowhere}\n", r"'nowhere' not found"),
    ],
)
def test_a_file_without_settings_is_named_on_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        load_config([overlay], [FIRST_DAY])
    assert "\n" not in str(refused.value)


def test_an_empty_file_changes_nothing(tmp_path: Path, config: Config) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("# nothing yet\n")
    assert load_config([overlay], [FIRST_DAY]) == config


@pytest.mark.parametrize("override", ["training.ranks", "=3", "training..ranks=3", ".ranks=3", ""])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"dotted\.key=value"):
        load_config([], [FIRST_DAY, override])


def test_overrides_win_over_overlays_and_overlays_over_base(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("training: {ranks: 3, threads_per_rank: 5}\n")
    config = load_config([overlay], [FIRST_DAY, "training.ranks=4"])
    assert (config.training.ranks, config.training.threads_per_rank) == (4, 5)


def test_a_missing_overlay_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no file nowhere\.yaml.*base"):
        load_config(["nowhere.yaml"])


def test_without_a_first_day_the_configuration_is_refused_by_that_name() -> None:
    with pytest.raises(ConfigError, match=r"calendar\.first_day is not set \(\?\?\?\): give it in an overlay"):
        load_config()


def test_all_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("source:\n  impressions: ???\n")
    with pytest.raises(ConfigError, match=r"calendar\.first_day, source\.impressions are not set \(\?\?\?\)"):
        load_config([tmp_path / "mine.yaml"])


def test_a_setting_that_an_overlay_leaves_open_is_not_taken_from_the_files_before_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("source:\n  timezone: ???\n")
    with pytest.raises(ConfigError, match=r"source\.timezone is not set"):
        load_config([tmp_path / "mine.yaml"], [FIRST_DAY])
    assert load_config([tmp_path / "mine.yaml"], [FIRST_DAY, "source.timezone=UTC"]).source.timezone == "UTC"


def test_the_methods_of_a_run_are_chosen_by_name() -> None:
    alone = load_config([], [FIRST_DAY], ["ads_only"])
    assert [method.name for method in alone.chosen] == ["ads_only"]
    with pytest.raises(ConfigError, match=r"no method dads_only; expected one of ecdctr, ads_only"):
        load_config([], [FIRST_DAY], ["dads_only"])


def test_a_dump_of_the_configuration_can_be_loaded_again(config: Config) -> None:
    assert typed(plain(config)) == config


def test_an_unknown_time_zone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"calendar\.timezone: .*the nearest known one is Europe/Berlin"):
        load_config([], [FIRST_DAY, "calendar.timezone=Europe/Berlinn"])


@pytest.mark.parametrize("root", ["/data/#1", "/data/50%", "/data?"])
def test_a_root_that_cannot_be_part_of_a_url_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.root"):
        load_config([], [FIRST_DAY, f"storage.root={root}"])


@pytest.mark.parametrize(("root", "named"), [("gopher://x", "unknown scheme gopher"), ("dbfs:/tmp/x", "only volumes")])
def test_a_root_of_another_scheme_is_refused_at_start_up(root: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"storage\.root: .*{named}") as refused:
        load_config([], [FIRST_DAY, f"storage.root={root}"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("root", ["/Volumes/main/ads/files", "dbfs:/Volumes/main/ads/files"])
def test_tables_in_a_volume_can_have_no_name(root: str) -> None:
    with pytest.raises(
        ConfigError, match=r"storage: catalog is main\.ads, but root is .*: put root in an external loc"
    ):
        load_config([], [FIRST_DAY, f"storage.root={root}", "storage.catalog=main.ads"])


@pytest.mark.parametrize("name", ["ads", "a.b.c", "main.`ads`", "main.a b", "main/ads"])
def test_a_catalog_is_named_with_its_schema(name: str) -> None:
    assert load_config([], [FIRST_DAY, "storage.catalog=my-catalog.ads"]).storage.catalog == "my-catalog.ads"
    with pytest.raises(ConfigError, match=r"storage\.catalog: .* is not of the form"):
        load_config([], [FIRST_DAY, f"storage.catalog={name}"])


def test_more_ranks_to_resume_with_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training: .*min_ranks is 3, and there are 2 ranks"):
        load_config([], [FIRST_DAY, "training.ranks=2", "training.min_ranks=3"])


def test_inline_is_one_rank() -> None:
    with pytest.raises(ConfigError, match=r"training: launcher inline is one rank, but ranks is 2"):
        load_config([], [FIRST_DAY, "training.launcher=inline", "training.ranks=2"])
    assert load_config([], [FIRST_DAY, "training.launcher=inline"]).training.ranks == "auto"


def test_executors_get_no_ranks_by_themselves() -> None:
    with pytest.raises(ConfigError, match=r"training: launcher spark takes no ranks auto: set training\.ranks to"):
        load_config([], [FIRST_DAY, "training.launcher=spark", "training.ranks=auto"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("methods.ecdtr.levels.tpm.train.epochs=2", r"methods\.ecdtr .* nearest known one is ecdctr"),
        ("methods.ecdctr.levels.tmp.train.epochs=2", r"methods\.ecdctr\.levels\.tmp .* nearest known one is tpm"),
    ],
)
def test_a_misspelled_method_or_level_is_named_beside_the_nearest(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config([], [FIRST_DAY, setting])


def test_a_feature_of_a_column_that_has_another_name_by_then_is_refused() -> None:
    """It would be null on every row, and nothing would say so."""
    renamed = ["calendar.first_day=2024-01-01", "source.kind=files", "source.columns.impressions={user_id: viewer}"]
    with pytest.raises(
        ConfigError, match=r"a feature reads context\.viewer, but source\.columns takes viewer for user_id"
    ):
        load_config([], [*renamed, "features.fields.seen={kind: id, source: context.viewer}"])
    load_config([], [*renamed, "features.fields.seen={kind: id, source: context.device}"])
