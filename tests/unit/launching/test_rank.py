"""A rank ends with the driver that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("accepted", [True, False], ids=["that has greeted it", "that has not"])
def test_a_rank_ends_when_its_driver_is_gone(tmp_path: Path, accepted: bool) -> None:
    """A driver that was killed before it had read all resets the connection instead of closing it."""
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(1)
        listener.settimeout(60.0)
        command = [sys.executable, "-m", "ecdctr_spark.launching.rank", address, "torch"]
        rank = subprocess.Popen(command, env={**os.environ, "RANK": "0"}, stderr=subprocess.PIPE, text=True)
        connection = listener.accept()[0]
        with connection:
            if accepted:
                assert connection.makefile().readline().startswith('{"rank": 0')
            else:
                connection.recv(1)  # it has written, and the rest is never read
    try:
        _, errors = rank.communicate(timeout=10.0)
    finally:
        rank.kill()
    assert rank.returncode == 0, errors
