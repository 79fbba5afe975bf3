"""make years runs nights one by one, and continues where it was stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.end_to_end

CHECKOUT = Path(__file__).resolve().parents[2]
NIGHTS = 4


def lived(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.years", str(NIGHTS)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_nights_are_run_once_and_their_table_is_printed_and_kept(tmp_path: Path) -> None:
    first = lived(tmp_path)
    assert first.returncode == 0, first.stderr
    kept = tmp_path / ".bench/years/nights.jsonl"
    seen = kept.read_text()
    assert len(seen.splitlines()) == NIGHTS
    again = lived(tmp_path)
    assert again.returncode == 0 and f"continues after {NIGHTS} nights" in again.stderr
    assert kept.read_text() == seen and again.stdout == first.stdout
    rows = json.loads((tmp_path / ".bench/years.json").read_text())
    assert {row["name"].split(",")[0] for row in rows} >= {"cpu_seconds", "files", "logs_mb", "vocabulary", "driver_mb"}
    assert all(row["value"] > 0 for row in rows if ", quarter" in row["name"])
