"""Executors whose pilot is put on another machine: batch system and way to it as for submissions."""

from .place import MachinePlace

__all__ = ["MachinePlace"]
