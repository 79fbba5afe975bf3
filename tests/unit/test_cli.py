"""Every command reports what its user got wrong on one line, with exit code 2, before anything is started."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ecdctr_spark import cli
from ecdctr_spark.config import load_config
from ecdctr_spark.settings.base import ConfigError
from tests.configured import FIRST_DAY

DAYS = ("--from", "2000-02-01", "--to", "2000-02-02")
TRAIN = ("train", "--level", "tpm", "--date", "2000-02-29")
COMMANDS = {
    **{name: (name, *DAYS) for name in ("ingest", "build", "check", "plan", "run")},
    **{name: (name,) for name in ("metrics", "tidy", "report")},
    "train": TRAIN,
    "export": ("export", "--model", "m", "--output", "o"),
    "score": ("score", "--model", "m", "--input", "i", "--output", "o"),
    "forget": ("forget", "--user", "u"),
}


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[str, int]:
    """The line that a command ends with, and its exit code."""
    root = () if arguments[0] in ("doctor", "nonsense") else ("--set", f"storage.root={tmp_path}", "--set", FIRST_DAY)
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, *root])
    lines = [line for line in capsys.readouterr().err.splitlines() if line]  # click ends the line of a Ctrl-C
    assert len(lines) == 1, lines
    return lines[0].removeprefix("error: "), int(str(ended.value.code))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--nonsense",), "--nonsense"),
        (("surplus",), "surplus"),
        (("--set", "training.ranks"), "dotted.key=value"),
        (("--set", "training.ranks=two"), "training.ranks: 'two' is no whole number"),
        (("--conf", "nowhere.yaml"), "no file nowhere.yaml"),
        (("--set",), "--set"),
    ],
)
def test_any_command_names_a_wrong_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...], wrong: tuple[str, ...], named: str
) -> None:
    line, code = said(capsys, tmp_path, *command, *wrong) if wrong != ("--set",) else bare(capsys, *command, *wrong)
    assert named in line and code == 2


def bare(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, int]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    return line, int(str(ended.value.code))


def test_a_command_that_is_done_returns_since_a_databricks_task_fails_on_any_exit(tmp_path: Path) -> None:
    cli.main(["plan", *DAYS, "--set", f"storage.root={tmp_path}", "--set", FIRST_DAY])


@pytest.mark.parametrize("command", [name for name, arguments in COMMANDS.items() if len(arguments) > 1])
def test_a_missing_option_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    line, code = said(capsys, tmp_path, *COMMANDS[command][:1], *COMMANDS[command][3:])
    assert COMMANDS[command][1] in line and code == 2


@pytest.mark.parametrize("command", ["ingest", "build", "check", "plan", "run"])
@pytest.mark.parametrize(
    ("first", "last", "named"),
    [
        ("today", "2000-02-01", "--from today: expected a day as YYYY-MM-DD, or yesterday"),
        ("2000-02-01", "9999-12-31", "--to 9999-12-31: expected no day after today, "),
        ("2000-02-01", "2000-02-30", "--to 2000-02-30: expected a day"),
        ("2000-02-02", "2000-02-01", "the first day comes after the last"),
        ("", "2000-02-01", "--from : expected a day"),
    ],
)
def test_days_that_are_none_or_out_of_order_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, first: str, last: str, named: str
) -> None:
    line, code = said(capsys, tmp_path, command, "--from", first, "--to", last)
    assert named in line and code == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nonsense",), "nonsense"),
        (("doctor", "--x"), "--x"),
        (("train", "--level", "cmp", "--date", "2000-02-29"), "--level cmp: expected one of"),
        ((*TRAIN[:3], "--date", "2000-02-28"), "tpm is due every month"),
        ((*TRAIN, "--ranks", "two"), "training.ranks: 'two' is no whole number"),
        ((*TRAIN, "--ranks", "auto", "--launcher", "spark"), "launcher spark takes no ranks auto"),
        ((*TRAIN, "--ranks", "0"), "training.ranks: 0 is too small"),
        ((*TRAIN, "--launcher", "mpi"), "training.launcher: 'mpi' is unknown"),
        ((*TRAIN, "--launcher", ""), "training.launcher"),
        (("run", *DAYS, "--method", "mine"), "no method mine"),
        (("plan", *DAYS, "--set", "source.kind=fils"), "no source fils"),
        (("export", "--model", "m", "--output", "o"), "--model m: no such model"),
        (("metrics",), "nothing has been evaluated yet"),
    ],
)
def test_a_wrong_value_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    line, code = said(capsys, tmp_path, *arguments)
    assert named in line and code == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "init: give the folder of your logs"),
        (("nowhere",), "nowhere: no such folder"),
        (
            ("nowhere", "--output", "mine.yaml"),
            "init: mine.yaml is there already; give another --output, or --overwrite",
        ),
        (("nowhere", "--views", "x"), "--views"),
    ],
)
def test_init_names_what_it_cannot_do(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--output" in arguments:
        (tmp_path / "mine.yaml").write_text("mine: true")
    line, code = bare(capsys, "init", *arguments)
    assert named in line and code == 2


def test_yesterday_is_that_of_the_calendar() -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):  # no moment is of the same day in both
        config = load_config([], [FIRST_DAY, f"calendar.timezone={zone}"])
        today = dt.datetime.now(ZoneInfo(zone)).date()
        assert cli._day(config, "--from", "yesterday") == today - dt.timedelta(days=1)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("wrong"), AssertionError()])
def test_a_bug_ends_with_1_and_names_its_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "load_config", fail)
    monkeypatch.setattr("ecdctr_spark.failures.log_file", lambda: tmp_path / "log")
    line, code = said(capsys, tmp_path, "plan", *DAYS)
    assert f"(log: {tmp_path}/log)" in line and code == 1
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_that_it_resumes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stop(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(cli, "load_config", stop)
    before = signal.getsignal(signal.SIGTERM)
    of_the_shell = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert said(capsys, tmp_path, "plan", *DAYS) == ("interrupted; the same command resumes", 130)
    finally:
        signal.signal(signal.SIGINT, of_the_shell)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_libraries_write_after_the_last_line_of_a_script_goes_to_the_log() -> None:
    """As PySpark's thread does that finds its JVM gone."""
    script = """
        import atexit, os, sys
        atexit.register(os.write, 2, b"a trace")
        from ecdctr_spark import cli, failures
        cli.script()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "plan", "--nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: No such option: --nonsense"]


@pytest.mark.parametrize("command", ["ingest", "build", "check", "tidy", "forget", "score", "report"])
def test_what_writes_under_a_root_is_refused_while_another_command_writes_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A score where it exports its model first, a report where predictions were not compared yet."""
    monkeypatch.setattr("ecdctr_spark.lease._TRIED", 0.0)
    monkeypatch.setattr("ecdctr_spark.pipeline.registry.registered_checkpoint", lambda *_: None)
    monkeypatch.setattr("ecdctr_spark.pipeline.steps.is_exported", lambda *_: False)
    monkeypatch.setattr("ecdctr_spark.pipeline.reporting.is_ready", lambda *_: False)
    (tmp_path / "leases").mkdir()
    claim = {"command": "run", "user": "u", "host": "elsewhere", "process": 1, "since": "2024-01-01 00:00:00"}
    (tmp_path / "leases/a.json").write_text(json.dumps(claim))
    line, code = said(capsys, tmp_path, *COMMANDS[command])
    assert line.startswith("storage.root: ecdctr run of u on elsewhere (process 1)") and code == 2
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["a.json"]


def test_without_a_folder_for_temporary_files_a_command_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("ecdctr_spark.failures.log_file", refuse)
    line, code = bare(capsys, "doctor")
    assert line == "error: no temporary files can be written: No usable temporary directory found: set TMPDIR"
    assert code == 2


def test_a_script_that_fails_itself_shows_its_trace() -> None:
    script = """
        from ecdctr_spark import cli
        cli._outcome = None
        cli.script()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_the_log_is_gone_after_a_run_without_failure(tmp_path: Path) -> None:
    script = "from ecdctr_spark.failures import log_file; print(log_file())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()


def test_a_tracking_uri_of_no_known_scheme_is_named_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line, code = said(capsys, tmp_path, "run", *DAYS, "--set", "tracking.uri=htp://me:secret@127.0.0.1")
    assert line.startswith("configuration: tracking.uri: htp://***@127.0.0.1: unknown scheme htp") and code == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_root_that_is_a_file_is_refused_before_a_session_is_started(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    config = load_config([], [FIRST_DAY, f"storage.root={tmp_path}/file{below}"])
    with pytest.raises(ConfigError, match=r"storage\.root: .*/file.*expected a folder"):
        cli._store(config)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_takes_a_file_for_an_empty_root(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    line, code = said(capsys, tmp_path / "file", *command)
    assert f"storage.root: {tmp_path}/file" in line and "expected a folder" in line and code == 2


@pytest.mark.parametrize("command", [COMMANDS[name] for name in COMMANDS if name not in ("plan", "ingest", "run")])
def test_a_misspelt_root_is_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    _, code = said(capsys, tmp_path / "misspelt", *command)
    assert code == 2 and not (tmp_path / "misspelt").exists()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("option", ["--quiet", "--json-logs"])
def test_every_command_knows_how_to_speak(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], option: str
) -> None:
    cli.main([command[0], "--help", option])
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1, 5])
def test_for_machines_the_last_line_has_the_error_and_the_exit_code(
    capsys: pytest.CaptureFixture[str], place: int
) -> None:
    arguments = ["plan", *DAYS]
    with pytest.raises(SystemExit):
        cli.main([*arguments[:place], "--json-logs", *arguments[place:]])
    started, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert (started["event"], started["command"]) == ("command started", "plan")
    assert (failed["level"], failed["event"], failed["exit_code"]) == ("error", "command failed", 2)
    assert "calendar.first_day is not set" in failed["error"]


def test_for_machines_an_unknown_option_is_an_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", "--json-logs", "--nonsense"])
    *_, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert "--nonsense" in failed["error"] and failed["exit_code"] == 2


@pytest.mark.parametrize(("option", "lines"), [("--quiet", 0), ("--json-logs", 2)])
def test_a_result_stays_readable_on_standard_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, lines: int
) -> None:
    days = ["--from", "2000-02-01", "--to", "2000-02-01", "--method", "ads_only"]
    cli.main(["plan", option, *days, "--set", f"storage.root={tmp_path}", "--set", FIRST_DAY])
    said = capsys.readouterr()
    assert said.out.startswith("ingest   2000-01-01..2000-02-01\n")
    assert len(said.err.splitlines()) == lines


def test_an_error_shows_no_password(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line, _ = said(capsys, tmp_path, "run", *DAYS, "--set", "tracking.uri=htpp://me:secret@127.0.0.1:9")
    assert "htpp://***@127.0.0.1:9" in line and "secret" not in line


@pytest.mark.parametrize(("options", "shown"), [([], 1), (["--quiet"], 0), (["--json-logs"], 0)])
def test_terms_of_a_data_set_are_shown_with_the_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], shown: int
) -> None:
    def stop(_: object) -> None:
        raise ConfigError("no session")

    monkeypatch.setattr(cli, "_store", stop)
    with pytest.raises(SystemExit):
        cli.main(["ingest", *DAYS, "--conf", "movielens", *options])
    assert len(capsys.readouterr().out.splitlines()) == shown
