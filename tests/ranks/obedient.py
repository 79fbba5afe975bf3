"""A rank that does what the job's name says instead of training: what test_launch.py starts in each world."""

from __future__ import annotations

import os
import signal
import sys
import time

from ecdctr_spark.launching.rank import serve
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from ecdctr_spark.training.trainer import Progress
from ecdctr_spark.training.world import World


def obey(job: TrainingJob, world: World, progress: Progress) -> TrainingResult:
    """Reports its process id as progress; by the job's name, rank 1 then raises, dies or is late, or both are late."""
    progress(os.getpid(), float(os.environ["OMP_NUM_THREADS"]))
    if world.rank == 1 and job.model_id == "raise":
        raise ValueError("nothing works here")
    if world.rank == 1 and job.model_id == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.model_id == "wait":
        time.sleep(600)
    if job.model_id == "both late" or (world.rank == 1 and job.model_id == "late"):
        time.sleep(3)
    world.barrier()
    return TrainingResult(rows=world.size, steps=0, seconds=0.0, loss=0.0, waiting=0.0)


if __name__ == "__main__":
    serve(obey, sys.argv[2], sys.argv[1])  # type: ignore[arg-type]
