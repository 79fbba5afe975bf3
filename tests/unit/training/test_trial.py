"""How long some work takes."""

from __future__ import annotations

import time

import pytest
import torch

from ecdctr_spark.training.trial import milliseconds


def test_milliseconds_are_of_one_time_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = 100.0, 0

    def work() -> None:
        nonlocal now, times
        now += 0.004 if times else 3.0
        times += 1

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert milliseconds(work) == pytest.approx(4.0)
    assert times > 2
