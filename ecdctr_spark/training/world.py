"""The world: the ranks of a training and their collective calls. The only import of Horovod in a rank."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import Exchange, own_device
from ecdctr_spark.settings.base import ConfigError


class World(Exchange, Protocol):
    """This process among `size` ranks. All ranks make the same calls in the same order."""

    @property
    def device(self) -> torch.device:
        """The device of this rank's model."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replaces the tensor by its sum over all ranks, in place, and returns it."""

    def barrier(self) -> None:
        """Returns once every rank has called it."""


class HorovodWorld:
    """The ranks that horovodrun or horovod.spark.run started.

    Each call waits for its result, so one name per kind of call is enough. Fixed names let Horovod cache the layout of
    a repeated call instead of negotiating it again.
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
    """Initialises Horovod in this rank. Raises ConfigError where Horovod cannot be imported."""
    try:
        import horovod.torch as horovod
    except ImportError as error:
        raise ConfigError(
            f"training.launcher: Horovod cannot be imported ({error}): run `make setup`, or use launcher inline"
        ) from error
    horovod.init()
    return HorovodWorld(horovod)
