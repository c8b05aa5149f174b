"""The ranks of a run as one object: a no-op for one process, torch.distributed for more."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from ...data.common import MachineError
from .members import WorldChange
from .peer_links import Links, cut, new_links
from .watched_work import WatchedWork

_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")

_UNHURRIED = timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """The place of this process among the ranks, and the few reductions that training needs."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    channel: Any = field(default=None, kw_only=True)
    """The process group that carries what is sent; None is the one that gradients go through."""
    links: Links = field(default_factory=dict, kw_only=True, compare=False)
    """The connections with the other ranks, over gloo."""
    world: int = field(default=0, kw_only=True)
    """Number of the change of the world that has made it."""
    has_lost: Callable[[int], bool] | None = field(default=None, kw_only=True, compare=False)
    """Says whether a rank has died since the change of that number; None where all end with one that dies."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum ``values`` over the ranks, in place."""
        if self.world_size > 1:
            self._do(dist.all_reduce, values)
        return values

    def all_reduce_sum_async(self, values: torch.Tensor) -> Any:
        """Start summing ``values`` in place; ``wait()`` on what is returned before they are read."""
        if self.world_size == 1:
            return None
        return self.watched(dist.all_reduce(values, group=self.channel, async_op=True))

    def minimum(self, values: torch.Tensor) -> torch.Tensor:
        """Take the minimum of ``values`` over the ranks, in place."""
        if self.world_size > 1:
            self._do(dist.all_reduce, values, op=dist.ReduceOp.MIN)
        return values

    def maximum_async(self, values: torch.Tensor) -> Any:
        """Start taking the maximum of ``values`` over several ranks, in place; ``wait()`` on what is returned."""
        return self.watched(dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.channel, async_op=True))

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Copy rank 0's ``values`` into those of every rank, in place."""
        if self.world_size > 1:
            self._do(dist.broadcast, values, 0)
        return values

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Gather ``values`` of every rank, stacked: [world_size, *values.shape]."""
        if self.world_size == 1:
            return values.unsqueeze(0)
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        self._do(dist.all_gather, parts, values)
        return torch.stack(parts)

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        """Gather bytes of every rank, of any lengths, in the order of the ranks."""
        own = torch.frombuffer(bytearray(payload or b"\0"), dtype=torch.uint8)
        lengths = self.gather(torch.tensor([len(payload)], device=self.device)).flatten().tolist()
        padded = torch.zeros(max(*lengths, len(own)), dtype=torch.uint8)
        padded[: len(own)] = own
        rows = self.gather(padded.to(self.device)).cpu().numpy()
        return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]

    def watched(self, work: Any) -> Any:
        """Return a collective under way as one that a rank's death ends, if others go on without who dies."""
        return work if self.has_lost is None else WatchedWork(work, partial(self.has_lost, self.world))

    def _do(self, collective: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        if self.has_lost is None:
            collective(*arguments, group=self.channel, **named)
        else:
            self.watched(collective(*arguments, group=self.channel, async_op=True, **named)).wait()

    def beside(self) -> Group:
        """Return the same ranks with a channel of their own on the host, for a thread beside the steps. Collective.

        It waits for as long as a disk may take: a rank that has died is noticed at once, and one that hangs by its
        other collectives.
        """
        channel = None if self.world_size == 1 else dist.new_group(backend="gloo", timeout=_UNHURRIED)
        return Group(self.rank, self.local_rank, self.world_size, torch.device("cpu"), channel=channel)

    def close(self) -> None:
        """Leave the process group, once."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def abandon(self) -> None:
        """Leave a process group in which a rank has died: whoever waits for this one notices at once.

        It is never freed: that would wait for what is under way, which nobody may come to end.
        """
        cut(self.links)
        if dist.is_initialized():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
            self.close()

    def succeeded_by(self, change: WorldChange, number: int) -> Group:
        """Leave the process group and join that of the world after a change, which takes place on one node's CPUs.

        Args:
            change: of the world; every rank of the one before has done its last collective.
            number: of this process, which is a member of the world after.
        """
        self.close()
        rank, world_size = change.after.index(number), len(change.after)
        links: Links = {}
        if world_size > 1:
            place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = PrefixStore(f"world {change.number}", TCPStore(*place, is_master=False))
            with new_links(place[1]) as links:
                dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
        told = self.has_lost
        return Group(rank, number, world_size, self.device, links=links, world=change.number, has_lost=told)


def join(*, gpu: bool) -> Group:
    """Join the ranks that torchrun's environment variables describe; alone where there are none.

    Args:
        gpu: each rank uses CUDA device LOCAL_RANK and NCCL; else the CPU and gloo.
    """
    rank, local_rank, world_size = (
        int(os.environ.get(key, default))
        for key, default in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
    )
    device = _device(local_rank) if gpu else torch.device("cpu")
    links: Links = {}
    if world_size > 1:
        with new_links(int(os.environ.get("MASTER_PORT", "0"))) as links:
            dist.init_process_group("nccl" if gpu else "gloo", device_id=device if gpu else None)
    else:
        # With RANK set, Accelerate puts even one process into a group and DDP around its model.
        for key in _TORCHRUN_VARIABLES:
            os.environ.pop(key, None)
    return Group(rank, local_rank, world_size, device, links=links)


def alone(*, gpu: bool) -> Group:
    """Return a world of this process alone, which joins the ranks of a run later."""
    local_rank = int(os.environ["LOCAL_RANK"])
    for key in _TORCHRUN_VARIABLES:
        os.environ.pop(key, None)
    return Group(0, local_rank, 1, _device(local_rank) if gpu else torch.device("cpu"))


def _device(local_rank: int) -> torch.device:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise MachineError(
            f"local rank {local_rank} needs GPU {local_rank}, but torch sees {count}",
            "ask for fewer with --gpus, or train on the processor with --cpu N",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
