"""The world: the ranks of a training and their collective calls. The only import of Horovod and of torch.distributed
in a rank.

Both worlds give the same model on CPUs, bit for bit with two ranks: the sum of two numbers has no order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import Exchange, own_device
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import WorldKind


class World(Exchange, Protocol):
    """This process among `size` ranks. All ranks make the same calls in the same order. A call raises
    BrokenExchangeError where another rank is gone."""

    @property
    def device(self) -> torch.device:
        """The device of this rank's model."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replaces the tensor by its sum over all ranks, in place, and returns it."""

    def barrier(self) -> None:
        """Returns once every rank has called it."""


class BrokenExchangeError(RuntimeError):
    """A collective call failed: what a rank sees of another that died or failed."""


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
        with _exchange():
            received, counts = self._horovod.alltoall(tensor, splits, name=name)
        return received, counts.tolist()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """See World."""
        name = f"all_reduce.{tensor.dtype}.{tensor.shape}"
        with _exchange():
            reduced: Tensor = self._horovod.allreduce_(tensor, op=self._horovod.Sum, name=name)
        return reduced

    def barrier(self) -> None:
        """See World."""
        with _exchange():
            self._horovod.barrier()


class TorchWorld:
    """The ranks that torchrun or Spark's TorchDistributor started: Gloo between CPUs, NCCL between GPUs."""

    def __init__(self, distributed: Any) -> None:
        self._distributed = distributed
        self.rank: int = distributed.get_rank()
        self.size: int = distributed.get_world_size()
        self.device = own_device(int(os.environ["LOCAL_RANK"]))

    def all_to_all(self, tensor: Tensor, splits: list[int]) -> tuple[Tensor, list[int]]:
        """See Exchange."""
        with _exchange():
            sent = torch.tensor(splits, device=tensor.device)
            expected = torch.empty_like(sent)
            self._distributed.all_to_all_single(expected, sent)
            counts = expected.tolist()
            received = tensor.new_empty((sum(counts), *tensor.shape[1:]))
            self._distributed.all_to_all_single(received, tensor.contiguous(), counts, splits)
        return received, counts

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """See World."""
        with _exchange():
            self._distributed.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """See World."""
        with _exchange():
            self._distributed.barrier()


def join_world(kind: WorldKind) -> World:
    """Makes this process one of the ranks that its launcher started. Raises ConfigError where the library is not
    there."""
    return _join_horovod() if kind == "horovod" else _join_torch()


def _join_horovod() -> HorovodWorld:
    try:
        import horovod.torch as horovod
    except ImportError as error:
        raise ConfigError(
            f"training.world is horovod, which cannot be imported ({error}): run `make setup`, or use torch"
        ) from error
    horovod.init()
    return HorovodWorld(horovod)


def _join_torch() -> TorchWorld:
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(own_device(int(os.environ["LOCAL_RANK"])))
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    return TorchWorld(distributed)


@contextmanager
def _exchange() -> Iterator[None]:
    """Both libraries raise a RuntimeError where another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise BrokenExchangeError(str(error)) from error
