"""The world: the ranks of a training and their collective calls. The only import of Horovod and of torch.distributed
in a rank.

Both worlds give the same model on CPUs, bit for bit with two ranks: the sum of two numbers has no order.

Horovod spends processor time wherever a rank waits, and ranks on one machine take it from each other and from Spark:

- Its thread polls for as long as a rank is in its world, for 0.12 s a second. So ranks are in it for the length of a
  training only. To leave and join again takes 0.1 s.
- Its `synchronize` yields in a loop until a call is done. It took three quarters of the processor time of a step of 512
  rows on two ranks. So a rank sleeps until its call is done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import ALONE, Arrival, Exchange, own_device
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


_POLL_SECONDS = 1e-4
_JOINED = count()


class BrokenExchangeError(RuntimeError):
    """A collective call failed: what a rank sees of another that died or failed."""


class HorovodWorld:
    """The ranks that horovodrun or horovod.spark.run started.

    A call of each kind has the first name that none under way has. Few names, used again and again, let Horovod cache
    the layout of a repeated call instead of negotiating it again.
    """

    def __init__(self, horovod: Any) -> None:
        self._horovod = horovod
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        self.device = own_device(horovod.local_rank())
        self._under_way: set[str] = set()

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """See Exchange. Horovod asks in any case."""
        names = (f"all_to_all.{tensor.dtype}.{tensor.shape[1:]}.{number}" for number in count())
        name = next(name for name in names if name not in self._under_way)
        with _exchange():
            handle = self._horovod.alltoall_async(tensor, splits, name=name)
        self._under_way.add(name)

        def arrived() -> tuple[Tensor, list[int]]:
            with _exchange():
                received, counts = self._done(handle)
            self._under_way.remove(name)
            return received, counts.tolist()

        return arrived

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """See World."""
        name = f"all_reduce.{tensor.dtype}.{tensor.shape}"
        with _exchange():
            self._done(self._horovod.allreduce_async_(tensor, op=self._horovod.Sum, name=name))
        return tensor

    def barrier(self) -> None:
        """See World."""
        self.all_reduce(torch.zeros(1))  # Horovod's own can only be waited for in its loop

    def _done(self, handle: int) -> Any:
        """The result of a call, which is slept for."""
        while not self._horovod.poll(handle):
            time.sleep(_POLL_SECONDS)
        return self._horovod.synchronize(handle)


class TorchWorld:
    """The ranks that torchrun or Spark's TorchDistributor started: Gloo between CPUs, NCCL between GPUs."""

    def __init__(self, distributed: Any) -> None:
        self._distributed = distributed
        self.rank: int = distributed.get_rank()
        self.size: int = distributed.get_world_size()
        self.device = own_device(int(os.environ["LOCAL_RANK"]))

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """See Exchange. Where nothing is expected, only the question how much will come is on its way before it is
        waited for."""
        if expected is not None:
            return self._sent(tensor, splits, expected)
        own = torch.tensor(splits, device=tensor.device)
        counts = torch.empty_like(own)
        with _exchange():
            asked = self._distributed.all_to_all_single(counts, own, async_op=True)

        def arrived() -> tuple[Tensor, list[int]]:
            with _exchange():
                asked.wait()
            return self._sent(tensor, splits, counts.tolist())()

        return arrived

    def _sent(self, tensor: Tensor, splits: list[int], expected: list[int]) -> Arrival:
        received = tensor.new_empty((sum(expected), *tensor.shape[1:]))
        with _exchange():
            all_to_all = self._distributed.all_to_all_single
            work = all_to_all(received, tensor.contiguous(), expected, splits, async_op=True)

        def arrived() -> tuple[Tensor, list[int]]:
            with _exchange():
                work.wait()
            return received, expected

        return arrived

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """See World."""
        with _exchange():
            self._distributed.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """See World."""
        with _exchange():
            self._distributed.barrier()


def rank_of(kind: WorldKind) -> int:
    """The number that its launcher gave this process, in the world or not."""
    return int(os.environ["HOROVOD_RANK" if kind == "horovod" else "RANK"])


def joined(kind: WorldKind) -> AbstractContextManager[World]:
    """Makes this process one of the ranks that its launcher started, for the length of the block. All ranks join
    together, as often as they like.

    A rank on its own needs no library. Raises ConfigError where the library is not there.
    """
    if int(os.environ["HOROVOD_SIZE" if kind == "horovod" else "WORLD_SIZE"]) == 1:
        return nullcontext(ALONE)
    return _WORLDS[kind]()


@contextmanager
def _horovod() -> Iterator[World]:
    try:
        import horovod.torch as horovod
    except ImportError as error:
        raise ConfigError(
            f"training.world is horovod, which cannot be imported ({error}): run `make setup`, or use torch"
        ) from error
    # horovodrun's store may keep the addresses by which a host's ranks met: it forgets those of a name when all ranks
    # of it are through, but loses count when another name is done in between. So the ranks never meet twice by one.
    if number := next(_JOINED):
        os.environ["HOROVOD_HOSTNAME"] = f"{os.environ['HOROVOD_HOSTNAME'].partition('~')[0]}~{number}"
    horovod.init()
    yield HorovodWorld(horovod)
    horovod.shutdown()  # not after an error: it would wait for ranks that may be gone, and this one is about to end


@contextmanager
def _torch() -> Iterator[World]:
    """Never left: idle ranks of Gloo sleep."""
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(own_device(int(os.environ["LOCAL_RANK"])))
            distributed.init_process_group("cpu:gloo,cuda:nccl")
        else:
            distributed.init_process_group("gloo")
    yield TorchWorld(distributed)


_WORLDS: dict[WorldKind, Callable[[], AbstractContextManager[World]]] = {"horovod": _horovod, "torch": _torch}


@contextmanager
def _exchange() -> Iterator[None]:
    """Both libraries raise a RuntimeError where another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise BrokenExchangeError(str(error)) from error
