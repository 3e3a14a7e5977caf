"""A class for each batch system: `PBS(context_type=..., ...)` makes a Machine, and `isinstance(machine, PBS)` asks for one.

There are no subclasses: a machine is of another class when somebody assigns to its `batch_type`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...description import arguments, schema
from ...machines import registry
from ...submission.machine import Machine


class _Kind(type):
    """Of a class that only stands for machines with one `batch_type`."""

    batch_type: str

    def __call__(cls, *args: Any, **options: Any) -> Machine:
        if args:
            return Machine(*args, **options)
        return Machine(**{"batch_type": cls.batch_type, **options})

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Machine) and instance.batch_type == cls.batch_type

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls


class _Named:
    """What these classes have besides what a Machine has: the keys of `resources.kwargs`."""

    batch_type: ClassVar[str]
    options = Machine.options
    load_from_dict = Machine.load_from_dict
    load_from_json = Machine.load_from_json
    load_from_yaml = Machine.load_from_yaml
    deserialize = Machine.deserialize
    arginfo = Machine.arginfo

    @classmethod
    def resources_arginfo(cls) -> Any:
        """What resources for this batch system have besides the keys of all resources: its `kwargs`."""
        return arguments.tree(
            arguments.batch_system(cls.batch_type), lambda mapping: {"kwargs": cls._checked(mapping["kwargs"])}
        )

    @classmethod
    def resources_subfields(cls) -> list[Any]:
        """The keys of `resources.kwargs`."""
        return [arguments.tree(arguments.kwargs(cls.batch_type), cls._checked)]

    @classmethod
    def _checked(cls, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return schema.check_kwargs(registry.keys(cls.batch_type).keys, kwargs, "kwargs")


def _named(batch_type: str) -> Any:
    members = {"batch_type": batch_type, "__doc__": f"A Machine with batch_type {batch_type}.", "__module__": __name__}
    return _Kind(batch_type, (_Named,), members)


SUBCLASSES: dict[str, Any] = {name: _named(name) for name in registry.names()}


def __getattr__(name: str) -> Any:
    """`from ...machine import SGE`."""
    if name in SUBCLASSES:
        return SUBCLASSES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
