"""The ranks of a training, and what they say to each other. The only import of Horovod."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import Exchange, own_device
from ecdctr_spark.settings.base import ConfigError


class World(Exchange, Protocol):
    """This process among `size` ranks. Every rank makes the same calls in the same order."""

    @property
    def device(self) -> torch.device:
        """Where this rank's model lies."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replaces the tensor by its sum over all ranks, and returns it."""

    def barrier(self) -> None:
        """Returns once every rank has come here."""


class HorovodWorld:
    """The ranks that horovodrun or horovod.spark.run started.

    Each call waits for its answer, so one name a kind of call is enough; fixed names let Horovod remember the layout
    of a repeated call instead of agreeing on it again.
    """

    def __init__(self, horovod: Any) -> None:
        self._horovod = horovod
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        self.device = own_device(horovod.local_rank())

    def all_to_all(self, tensor: Tensor, splits: list[int]) -> tuple[Tensor, list[int]]:
        """See Exchange."""
        name = f"all_to_all.{tensor.dtype}.{tensor.shape[1:]}"
        received, counts = self._horovod.alltoall(tensor, splits, name=name)
        return received, counts.tolist()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """See World."""
        name = f"all_reduce.{tensor.dtype}.{tensor.shape}"
        reduced: Tensor = self._horovod.allreduce_(tensor, op=self._horovod.Sum, name=name)
        return reduced

    def barrier(self) -> None:
        """See World."""
        self._horovod.barrier()


def join_world() -> HorovodWorld:
    """Joins the ranks among which this process was started. Raises ConfigError where Horovod cannot be imported."""
    try:
        import horovod.torch as horovod
    except ImportError as error:
        raise ConfigError(
            f"training.launcher: Horovod cannot be imported ({error}): run make, or use inline"
        ) from error
    horovod.init()
    return HorovodWorld(horovod)
