"""`ecdctr init` finds the logs below a folder, writes a configuration that loads, and says what comes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline.initial import initialise, logs_below
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

DAYS = [f"2024-01-{day:02d}" for day in range(1, 31)] + [f"2024-02-{day:02d}" for day in range(1, 11)]


def made(folder: Path, without: str = "") -> Path:
    """Logs of 40 days, one file a day, in names of their own."""
    header = ["imp_id", "shown_at", "is_ad", "uid", "sku"]
    columns = [name for name in header if name != without]
    views, clicks = folder / "views", folder / "click_log"
    for part in (views, clicks):
        part.mkdir(parents=True)
    for number, day in enumerate(DAYS):
        rows = [
            [f"{number}-{n}", f"{day}T{n:02d}:00:00Z", str(int(n % 4 == 0)), f"u{n % 3}", f"i{n % 5}"]
            for n in range(24)
        ]
        kept = [dict(zip(header, row, strict=True)) for row in rows]
        lines = [",".join(row[name] for name in columns) for row in kept]
        (views / f"{day}.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
        (clicks / f"{day}.csv").write_text(f"imp_id,clicked_at\n{number}-3,{day}T03:00:09Z\n")
    return folder


def said(*folders: Path, output: Path, overwrite: bool = False, **given: str) -> list[str]:
    return list(initialise([str(folder) for folder in folders], given, output, overwrite))


def test_it_writes_a_configuration_and_shows_what_a_run_would_do(tmp_path: Path) -> None:
    lines = said(made(tmp_path / "logs"), output=tmp_path / "mine.yaml")
    config = load_config([tmp_path / "mine.yaml"])
    assert config.source.columns.impressions == {
        "event_id": "imp_id", "event_time": "shown_at", "domain": "is_ad", "user_id": "uid", "item_id": "sku",
    }  # fmt: skip
    assert (config.source.domains.natural, config.source.domains.ad) == (("0",), ("1",))
    assert str(config.calendar.first_day) == "2024-01-01"
    after = lines[lines.index("next:") + 1 :]
    assert after[0].split("#")[0].split() == ["ecdctr", "check", "--raw", "--conf", str(tmp_path / "mine.yaml")]
    assert after[1].endswith("--from 2024-02-04 --to 2024-02-10")
    assert "  train    TPM (monthly): 1 model, of 2024-01-31" in after
    assert "  predict  7 days of ads, 2024-02-04 to 2024-02-10" in after


def test_equal_logs_give_an_equal_file_and_none_is_overwritten_unasked(tmp_path: Path) -> None:
    logs, output = made(tmp_path / "logs"), tmp_path / "mine.yaml"
    said(logs, output=output)
    first = output.read_text()
    with pytest.raises(ConfigError, match=r"mine\.yaml is there already; give another --output, or --overwrite"):
        said(logs, output=output)
    said(logs, output=output, overwrite=True)
    assert output.read_text() == first


def test_what_could_not_be_decided_is_asked_for_before_anything_else(tmp_path: Path) -> None:
    output = tmp_path / "mine.yaml"
    lines = said(made(tmp_path / "logs", without="is_ad"), output=output)
    assert "give what could not be decided (???): source.columns.impressions.domain" in lines
    assert not any("ecdctr run" in line for line in lines)
    with pytest.raises(ConfigError, match=r"source\.columns\.impressions\.domain is not set"):
        load_config([output])


def test_logs_of_too_few_days_are_reported(tmp_path: Path) -> None:
    logs = made(tmp_path / "logs")
    for day in DAYS[1:]:
        (logs / "views" / f"{day}.csv").unlink()
    lines = said(logs, output=tmp_path / "mine.yaml")
    assert any(
        line.startswith("the logs end on 2024-01-01, before a model could predict: method ecdctr") for line in lines
    )


def test_folders_may_be_named(tmp_path: Path) -> None:
    logs = made(tmp_path / "logs")
    given = {"impressions": str(logs / "views"), "clicks": str(logs / "click_log")}
    said(output=tmp_path / "mine.yaml", **given)
    source = load_config([tmp_path / "mine.yaml"]).source
    assert (source.impressions, source.clicks) == (given["impressions"], given["clicks"])
    with pytest.raises(ConfigError, match="give the folder of your logs"):
        said(output=tmp_path / "other.yaml")


def test_logs_lie_in_folders_of_days_beside_each_other_or_below(tmp_path: Path) -> None:
    csv = {"views": "a,b,c\n", "clicks": "x,y\n"}
    for path, text in {
        "flat/views.csv": csv["views"], "flat/clicks.csv": csv["clicks"], "days/2024-01-01/1.csv": csv["views"],
        "days/2024-01-02/1.csv": csv["views"], "deep/web/views/ds=2024-01-01/1.csv": csv["views"],
        "deep/web/clicks/1.csv": csv["clicks"], "parts/1.csv": csv["views"], "parts/2.csv": "a,b,c,d\n",
        "parts/_SUCCESS": "x",
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def below(name: str) -> list[str]:
        return [str(Path(str(place)).relative_to(tmp_path)) for place in logs_below(Root.parse(tmp_path / name))]

    assert below("flat") == ["flat/clicks.csv", "flat/views.csv"]
    assert below("days") == ["days"]
    assert below("deep") == ["deep/web/clicks", "deep/web/views"]
    assert below("parts") == ["parts"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no/such/mine\.yaml cannot be written"):
        said(made(tmp_path / "logs"), output=tmp_path / "no" / "such" / "mine.yaml")
