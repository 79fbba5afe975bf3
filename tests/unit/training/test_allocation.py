"""Memory that a step frees is reused by the next one without the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process of its own: the setting is for good. Prints the pages that it was given while steps allocate and free.
STEPS = """
import resource, sys
import numpy as np
from ecdctr_spark.training.allocation import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    tensors = [np.ones(3_000_000, np.float32) for _ in range(4)]

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_a_step_reuses_the_memory_that_the_last_one_freed() -> None:
    assert pages("kept") < pages("as it comes") / 10


def pages(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)
