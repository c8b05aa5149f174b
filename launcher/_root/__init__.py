"""Lockstep: distributed training in which the number of processes is a resource, never a hyper-parameter."""

__version__ = "0.1.0"
