"""What is beside a run: another run under the same root, a disk that is full, and rows that are no rows."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.kills import Reference
from tests.chaos.runs import ALL_DAYS, Platform, begun, left

_BAD = (
    "{event},2024-03-05T10:00:00,ad,,item-1",
    "{event},2024-03-05T10:00:00,ad,user-1,",
    ",2024-03-05T10:00:00,ad,user-1,item-1",
    "{event},soon,ad,user-1,item-1",
    "{event},2024-03-05T10:00:00,advert,user-1,item-1",
    "{event},2024-03-05T10:00:00",
)


def two_at_once(platform: Platform, root: Path, reference: Reference) -> bool:
    """Whether of two runs that begin together one is refused in one line with exit code 2, and the other ends as it
    should."""
    runs = [begun(platform, root) for _ in range(2)]
    said = [run.communicate() for run in runs]
    refused = [errors for run, (_, errors) in zip(runs, said, strict=True) if run.returncode == 2]
    in_line = len(refused) == 1 and re.fullmatch(r"error: storage\.root: .* writes there: .*\n", refused[0]) is not None
    return in_line and {run.returncode for run in runs} == {0, 2} and left(root) == reference.left


def full_disk(platform: Platform, folder: Path, reference: Reference, megabytes: int) -> bool | None:
    """Whether a run on a disk of some megabytes stops with one line that says that it is full, and ends as it should
    once there is room. None where this user may mount no such disk."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=False).returncode:
        return None
    with _unmounted(folder):
        stopped = begun(platform, folder / "root")
        _, errors = stopped.communicate()
        in_line = stopped.returncode == 2 and re.fullmatch(r"error: a disk is full .*\n", errors) is not None
        subprocess.run(["mount", "-o", "remount,size=2g", folder], check=True)
        again = begun(platform, folder / "root")
        again.communicate()
        return in_line and again.returncode == 0 and left(folder / "root") == reference.left


def bad_rows(platform: Platform, root: Path, number: int, seed: int = 1) -> bool:
    """Whether an ingest of logs with `number` bad rows more puts each into quarantine, and its counts add up."""
    logs = platform.overlay.parent / "logs" / "impressions"
    kept = logs / "part.csv"
    chance, more = random.Random(seed), logs / "bad.csv"
    rows = (chance.choice(_BAD).format(event=f"bad-{place}") for place in range(number))
    header = kept.read_text().partition("\n")[0]
    before = _counts(platform, root)
    more.write_text("\n".join([header, *rows]) + "\n")
    try:
        after = _counts(platform, root)
    finally:
        more.unlink()
    read, kept_rows, duplicates, quarantined = after
    return read == kept_rows + duplicates + quarantined and quarantined - before[3] == number


def _counts(platform: Platform, root: Path) -> tuple[int, int, int, int]:
    """Rows read, kept, duplicate and quarantined of an ingest of all days."""
    ingested = begun(platform, root, "ingest", ALL_DAYS)
    out, errors = ingested.communicate()
    assert ingested.returncode == 0, errors
    shutil.rmtree(root)
    found = re.search(r"(\S+) rows read = (\S+) kept \+ (\S+) duplicates \+ (\S+) quarantined", out)
    assert found, out
    read, kept, duplicates, quarantined = (int(each.replace(",", "")) for each in found.groups())
    return read, kept, duplicates, quarantined


@contextmanager
def _unmounted(folder: Path) -> Iterator[None]:
    """Unmounts a disk when the block ends."""
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
