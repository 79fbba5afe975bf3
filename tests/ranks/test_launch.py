"""Launchers: ranks start once, run job after job, and end together, whatever ends them."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, Launching
from ecdctr_spark.contract import Contract
from ecdctr_spark.launching.launch import open_ranks
from ecdctr_spark.launching.local import LocalRanks
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError, parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.checkpoint import Checkpoint
from ecdctr_spark.training.job import RankDiedError, TrainingJob, TrainingResult, WorldKind
from tests.sessions import UNUSED

CONTRACT = Contract(ids=("user_id", "item_id"), unknown=(1, 1), unknown_rows=1, numbers=(), sequences=())
SPEC = ModelSpec(
    network={"kind": "tiny", "dimension": 4, "seed": 0, "hidden": [4]},
    contract=CONTRACT,
    rows=50,
)


def job(config: Config, name: str, units: tuple[Unit, ...] = (), output: str = "") -> TrainingJob:
    return TrainingJob(
        model_id=name,
        model=SPEC,
        train=replace(config.methods["ecdctr"].levels["tpm"].train, shuffle_rows=500),
        units=units,
        until=dt.date(2024, 1, 1),
        output=output,
    )


WORLDS: tuple[WorldKind, ...] = ("horovod", "torch")


def training(launcher: str, ranks: int | str, world: str = "auto") -> Launching:
    chosen = {"launcher": launcher, "world": world, "ranks": ranks, "threads_per_rank": 1, "clocks": ["day"]}
    return parsed(Launching, chosen)


@pytest.fixture(scope="module", params=WORLDS)
def obedient(request: pytest.FixtureRequest) -> Iterator[LocalRanks]:
    """Two ranks that do as tests/ranks/obedient.py says."""
    with closing(LocalRanks(request.param, 2, 3, "tests.ranks.obedient")) as ranks:
        yield ranks


def run_job(ranks: LocalRanks, given: TrainingJob) -> tuple[TrainingResult, set[int]]:
    """The job's result, and the process ids of the ranks that worked on it."""
    pids: set[int] = set()
    return ranks.train(given, lambda pid, _: pids.add(pid)), pids


def used(pids: set[int]) -> float:
    """The seconds of processor time that the processes have used."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(time.user + time.system for time in times)


def ended(pids: set[int], seconds: float = 10.0) -> bool:
    """Whether the processes, and whatever else this one started for them, are gone in time."""
    deadline = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(psutil.pid_exists(pid) for pid in pids)


def launchers() -> list[psutil.Process]:
    """The horovodruns and torchruns of this process."""
    children = psutil.Process().children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]  # one has no command line any more
    names = {"horovod.runner.launch", "torch.distributed.run"}
    return [child for child in alive if names.intersection(child.cmdline())]


def serving() -> list[psutil.Process]:
    """The ranks that this process started and that run."""
    children = psutil.Process().children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    commands = {child: [word for word in child.cmdline() if word != "-u"] for child in alive}  # older torchruns add it
    return [child for child in alive if commands[child][1:3] == ["-m", "ecdctr_spark.launching.rank"]]


@pytest.mark.ranks
def test_ranks_start_once_for_many_jobs(obedient: LocalRanks, config: Config) -> None:
    result, pids = run_job(obedient, job(config, "answer"))
    assert result.rows == len(pids) == 2
    assert run_job(obedient, job(config, "answer")) == (result, pids)
    assert len(launchers()) == 1


@pytest.mark.ranks
def test_ranks_use_no_processor_between_jobs(obedient: LocalRanks, config: Config) -> None:
    _, pids = run_job(obedient, job(config, "answer"))
    time.sleep(0.5)  # what ends with the job
    before, started = used(pids), time.monotonic()
    time.sleep(2)
    assert used(pids) - before < 0.1 * (time.monotonic() - started)  # two in Horovod's world take 0.24 s a second
    assert run_job(obedient, job(config, "answer"))[1] == pids


@pytest.mark.ranks
def test_ranks_use_little_processor_where_one_waits_for_the_other(obedient: LocalRanks, config: Config) -> None:
    _, pids = run_job(obedient, job(config, "answer"))

    def share(name: str) -> float:
        before, started = used(pids), time.monotonic()
        run_job(obedient, job(config, name))
        return (used(pids) - before) / (time.monotonic() - started)

    # To yield in a loop takes one of them 1 s a second more, each time; beside other work, a little less.
    assert any(share("late") < share("both late") + 0.4 for _ in range(3))


@pytest.mark.ranks
def test_ranks_have_the_threads_that_were_asked_for(obedient: LocalRanks, config: Config) -> None:
    threads: set[float] = set()
    obedient.train(job(config, "answer"), lambda _, number: threads.add(number))
    assert threads == {3.0}


@pytest.mark.ranks
def test_an_exception_on_one_rank_ends_all_with_its_error(obedient: LocalRanks, config: Config) -> None:
    _, pids = run_job(obedient, job(config, "answer"))
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^rank 1 failed: ValueError: nothing works here \(log: (.*)\)") as failed:
        run_job(obedient, job(config, "raise"))
    assert ended(pids, seconds=1) and not launchers()
    assert time.monotonic() - started < 20
    log = Path(str(failed.value).split("log: ")[1].rstrip(")"))
    assert "Traceback" in log.read_text()


@pytest.mark.ranks
def test_the_next_job_starts_new_ranks_and_a_dead_one_ends_all(obedient: LocalRanks, config: Config) -> None:
    _, pids = run_job(obedient, job(config, "answer"))
    with pytest.raises(RuntimeError, match=r"^rank 1 died: .*(Killed|SIGKILL)"):
        run_job(obedient, job(config, "die"))
    assert ended(pids, seconds=1) and not launchers()


@pytest.mark.ranks
@pytest.mark.needs("horovod")  # torchrun's ranks end their job without it
def test_a_launcher_that_is_killed_ends_all_and_is_named(config: Config) -> None:
    pids: set[int] = set()

    def kill(pid: int, _: float) -> None:
        pids.add(pid)
        if len(pids) == 2:
            for launcher in launchers():
                launcher.kill()

    died = pytest.raises(RuntimeError, match=r"^rank \d died: their launcher was killed \(SIGKILL\) \(log: .*\)$")
    with closing(LocalRanks("horovod", 2, 1, "tests.ranks.obedient")) as ranks, died:
        ranks.train(job(config, "wait"), kill)
    assert ended(pids) and not launchers()


@pytest.mark.ranks
def test_an_interrupt_of_the_driver_ends_all(obedient: LocalRanks, config: Config) -> None:
    pids: set[int] = set()

    def interrupt(pid: int, _: float) -> None:
        pids.add(pid)
        if len(pids) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obedient.train(job(config, "wait"), interrupt)
    assert ended(pids, seconds=1) and not launchers()


DRIVER = """
import sys
from ecdctr_spark.config import load_config
from ecdctr_spark.launching.local import LocalRanks
from tests.configured import FIRST_DAY
from tests.ranks.test_launch import job
config = load_config([], [FIRST_DAY])
ranks = LocalRanks(sys.argv[1], 2, 1, "tests.ranks.obedient")
ranks.train(job(config, "wait"), lambda pid, _: print(pid, flush=True))
"""


@pytest.mark.ranks
@pytest.mark.parametrize("world", WORLDS)
def test_a_killed_driver_leaves_no_rank(world: WorldKind) -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER, world], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        pids = {int(driver.stdout.readline()) for _ in range(2)}
        launcher = {process.pid for process in launchers()}
        driver.kill()
    assert launcher and ended(pids | launcher)


@pytest.mark.ranks
@pytest.mark.parametrize("world", WORLDS)
def test_ranks_that_do_not_start_say_why(config: Config, world: WorldKind) -> None:
    ranks = LocalRanks(world, 2, 1, "tests.ranks.no_such_module")
    with pytest.raises(RuntimeError, match=r"the ranks did not start: .*No module named tests.ranks.no_such_module"):
        ranks.train(job(config, "answer"), lambda *_: None)
    assert not launchers()


@pytest.mark.ranks
def test_no_rank_idles_before_the_first_job() -> None:
    with open_ranks(training("local", 2), UNUSED):
        assert not launchers()


@pytest.mark.ranks
def test_ranks_that_are_interrupted_while_they_start_end(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    started: set[int] = set()

    def interrupted(group: object) -> None:
        until = time.monotonic() + 30  # a process has its command line once it has been replaced by the command
        while not started and time.monotonic() < until:
            started.update(process.pid for process in launchers())
        raise KeyboardInterrupt

    monkeypatch.setattr("ecdctr_spark.launching.local._Group.gather", interrupted)
    with closing(LocalRanks("torch", 2, 1, "tests.ranks.obedient")) as ranks, pytest.raises(KeyboardInterrupt):
        ranks.train(job(config, "answer"), lambda *_: None)
    assert len(started) == 1 and ended(started)


@pytest.mark.ranks
@pytest.mark.needs("horovod", "petastorm")
def test_every_launcher_world_and_reader_makes_the_same_model(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    models: list[dict[str, bytes]] = []
    for launcher, world, reader in (
        ("local", "horovod", "petastorm"),
        ("local", "torch", "arrow"),
        ("spark", "horovod", "arrow"),
        ("spark", "torch", "petastorm"),
    ):
        reported: list[tuple[int, float]] = []
        output = tmp_path / f"{launcher} {world}"
        task = replace(job(config, "tpm", write_units(tmp_path), str(output)), reader=reader)
        with open_ranks(training(launcher, 2, world), Session.of(spark)) as ranks:
            result = ranks.train(task, lambda *done, reported=reported: reported.append(done))
        assert reported[-1] == (result.rows, result.loss)
        assert result.rows == 600
        models.append({path.name: path.read_bytes() for path in output.glob("*.safetensors")})
    assert len(models[0]) > 1
    assert all(model == models[0] for model in models)


@pytest.mark.ranks
def test_ranks_killed_in_the_middle_of_a_training_and_started_again_end_with_the_same_weights(
    config: Config, tmp_path: Path
) -> None:
    units = write_units(tmp_path)
    killed: set[int] = set()

    def kill(rows: int, loss: float) -> None:
        if rows > 8 * 130:  # in the middle of an epoch and between two checkpoints
            killed.update(process.pid for process in serving())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with open_ranks(training("local", 2), UNUSED) as ranks:
        whole = ranks.train(long(job(config, "tpm", units, str(tmp_path / "whole"))), lambda *_: None)
        with pytest.raises(RankDiedError):
            ranks.train(long(job(config, "tpm", units, str(tmp_path / "killed"))), kill)
        again = ranks.train(long(job(config, "tpm", units, str(tmp_path / "killed"))), lambda *_: None)
    assert len(killed) == 2
    assert 0 < again.resumed < again.steps == whole.steps
    for path in (tmp_path / "whole").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()


@pytest.mark.ranks
def test_a_training_survives_the_loss_of_one_of_two_ranks(config: Config, tmp_path: Path) -> None:
    task = long(job(config, "tpm", write_units(tmp_path), str(tmp_path / "model")))
    killed: list[int] = []

    def kill_one(rows: int, loss: float) -> None:
        if rows > 8 * 100 and not killed:
            killed.append(max(process.pid for process in serving()))
            os.kill(killed[0], signal.SIGKILL)

    elastic = replace(training("local", 2), min_ranks=1)
    with open_ranks(elastic, UNUSED) as ranks:
        result = ranks.train(task, kill_one)
    assert killed and result.resumed >= 100
    assert (result.rows, result.ranks) == (8 * 600, 1)  # each row once per epoch, the dead rank's share included
    assert Checkpoint.open(Root.parse(tmp_path / "model")).manifest.ranks == 1
    assert not serving() and not launchers()


def test_inline_trains_in_this_process(config: Config, tmp_path: Path) -> None:
    with open_ranks(training("inline", 1), UNUSED) as ranks:
        result = ranks.train(job(config, "tpm", write_units(tmp_path), str(tmp_path / "model")), lambda *_: None)
    assert result.rows == 600
    assert (tmp_path / "model" / "manifest.json").is_file()


@pytest.mark.ranks
def test_one_rank_chosen_for_a_small_training_makes_the_model_of_this_process(config: Config, tmp_path: Path) -> None:
    units = write_units(tmp_path)
    for launcher in ("local", "inline"):
        with open_ranks(training(launcher, "auto"), UNUSED) as ranks:
            result = ranks.train(job(config, "tpm", units, str(tmp_path / launcher)), lambda *_: None)
            assert len(serving()) == (launcher == "local")
        assert (result.rows, result.ranks) == (600, 1)
    for path in (tmp_path / "inline").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "local" / path.name).read_bytes()


def test_more_ranks_than_slots_are_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecdctr_spark.executors._patience", lambda spark: 1)
    with pytest.raises(ConfigError, match=r"training.ranks is 5, but Spark has 2 slots"):
        open_ranks(training("spark", 5), Session.of(spark)).__enter__()
    with pytest.raises(ConfigError, match=r"classic Spark session"):
        open_ranks(training("spark", 1), Session.of(None)).__enter__()


def long(task: TrainingJob) -> TrainingJob:
    """The same with hundreds of steps, and a checkpoint now and then."""
    train = replace(task.train, batch_size=8, epochs=8, checkpoint_steps=100)
    return replace(task, train=train)


def write_units(folder: Path) -> tuple[Unit, ...]:
    """Three files of 200 rows."""
    random = np.random.default_rng(0)
    units = []
    for number in range(3):
        columns = {name: random.integers(2, 50, 200).astype("int32") for name in CONTRACT.ids}
        columns |= {"click_day": np.zeros(200, "int32")}
        columns |= {"label": random.integers(0, 2, 200).astype("float32"), "weight": np.ones(200, "float32")}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
        units.append(Unit(path=str(folder / f"{number}.parquet"), rows=200))
    return tuple(units)
