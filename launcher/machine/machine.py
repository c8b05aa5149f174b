"""What this machine has, found out without torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .cpu_limits import read_cores
from .numa import node_of_device, read_nodes
from .nvml import Device, read_devices


@dataclass(frozen=True)
class Machine:
    """Processors and GPUs that this process may use."""

    cores: int
    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them: indices, UUIDs or MIG names, kept as strings."""
    hostname: str
    cores_why: str = ""
    """Why these are fewer cores than the machine has; empty where it is all of them."""
    devices: tuple[Device | None, ...] = ()
    """What the driver says about each of ``gpus``; None for a name that it does not know."""
    gpu_nodes: tuple[int | None, ...] = ()
    """The NUMA node that each of ``gpus`` is attached to; None where the machine does not say."""
    nodes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """NUMA node to the CPUs in it that this process may use."""

    def device(self, gpu: str) -> Device | None:
        """Return what the driver says about one of ``gpus``."""
        position = self.gpus.index(gpu)
        return self.devices[position] if position < len(self.devices) else None

    def node(self, gpu: str) -> int | None:
        """Return the NUMA node that one of ``gpus`` is attached to."""
        position = self.gpus.index(gpu)
        return self.gpu_nodes[position] if position < len(self.gpu_nodes) else None


def read_machine() -> Machine:
    """Ask the kernel and the NVIDIA driver."""
    cores = read_cores()
    visible = visible_gpus(read_devices(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Machine(
        cores=cores.count,
        gpus=tuple(name for name, _ in visible),
        hostname=platform.node(),
        cores_why=cores.why,
        devices=tuple(device for _, device in visible),
        gpu_nodes=tuple(node_of_device(device.pci) if device else None for _, device in visible),
        nodes=read_nodes(cores.cpus),
    )


def visible_gpus(devices: Sequence[Device], listed: str | None) -> list[tuple[str, Device | None]]:
    """Return the GPUs that CUDA programs started from here would see, by name.

    Args:
        devices: all that the driver knows.
        listed: CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    if listed is None:
        return [pair for device in devices for pair in _unlisted(device)]
    found = []
    for name in (part.strip() for part in listed.split(",")):
        device = _named(devices, name)
        if device is None and not (devices and name.startswith("MIG-GPU-")):
            break  # CUDA, too, ignores the first name that it does not know and all after it
        found.append((name, device))
    return found


def _unlisted(device: Device) -> list[tuple[str, Device]]:
    """List a GPU under its number; one that MIG has cut up as its slices, which have no number."""
    return [(part.uuid, part) for part in device.slices] or [(str(device.index), device)]


def _named(devices: Sequence[Device], name: str) -> Device | None:
    """Find the device of a number, a UUID or the beginning of one that fits a single device."""
    if name.isascii() and name.isdigit():
        device = devices[int(name)] if int(name) < len(devices) else None
        return device.slices[0] if device and device.slices else device  # as CUDA takes it
    every = [part for device in devices for part in (device, *device.slices)]
    fitting = [part for part in every if part.uuid.lower().startswith(name.lower())]
    return fitting[0] if len(fitting) == 1 and name.startswith(("GPU-", "MIG-")) else None
