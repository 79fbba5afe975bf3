"""The `ecdctr` script, outside the command that it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_ends_in_one_line(number: signal.Signals) -> None:
    script = f"""
        import os, signal, sys

        class Interrupted:
            def find_spec(self, name, path=None, target=None):
                if name == "typer":
                    os.kill(os.getpid(), {int(number)})

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        sys.meta_path.insert(0, Interrupted())
        from ecdctr_spark.__main__ import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == ["error: interrupted; the same command resumes"]
    assert done.returncode == 130


def test_the_package_runs_as_its_script_does() -> None:
    command = [sys.executable, "-m", "ecdctr_spark", "plan", "--nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: No such option: --nonsense"]
