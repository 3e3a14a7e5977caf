"""A class for each batch system: `PBS(context_type=..., ...)` makes a machine, and `isinstance(machine, PBS)` asks for one.

They are Machines whose `batch_type` is set. What a machine is, its `batch_type` says, whatever it was made by.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from ...description import arguments, schema
from ...machines import registry
from ...submission.machine import Machine


class _ByBatchType(ABCMeta):
    """Of classes whose instances are all machines with their `_batch_type`."""

    _batch_type: str

    def __instancecheck__(cls, instance: object) -> bool:
        if "_batch_type" not in vars(cls):  # derived from one of these by somebody else
            return super().__instancecheck__(instance)
        return isinstance(instance, Machine) and cls._batch_type in ("", instance.batch_type)


class _Named(Machine, metaclass=_ByBatchType):
    """What these classes have besides what a Machine has: the keys of `resources.kwargs`."""

    _batch_type: ClassVar[str] = ""

    def __init__(self, batch_type: str | None = None, *more: Any, **keys: Any) -> None:
        super().__init__(batch_type or self._batch_type, *more, **keys)

    @classmethod
    def resources_arginfo(cls) -> Any:
        """What resources for this batch system have besides the keys of all resources: its `kwargs`."""
        branch = arguments.batch_system(cls._batch_type)
        return arguments.tree(branch, lambda mapping: {"kwargs": cls._checked(mapping.get("kwargs", {}))})

    @classmethod
    def resources_subfields(cls) -> list[Any]:
        """The keys of `resources.kwargs`."""
        return [arguments.tree(arguments.kwargs(cls._batch_type), cls._checked)]

    @classmethod
    def _checked(cls, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return schema.check_kwargs(registry.keys(cls._batch_type).keys, kwargs, "kwargs")


def _named(batch_type: str) -> type[_Named]:
    members = {"_batch_type": batch_type, "_like": batch_type, "__module__": __name__}
    members["__doc__"] = f"A Machine with batch_type {batch_type}."
    return cast("type[_Named]", _ByBatchType(batch_type, (_Named,), members))


SUBCLASSES: dict[str, type[_Named]] = {name: _named(name) for name in registry.names()}
SUBCLASSES |= dict.fromkeys(("DpCloudServer", "Lebesgue"), SUBCLASSES["Bohrium"])


def __getattr__(name: str) -> Any:
    """`from ...machine import SGE`."""
    if name in SUBCLASSES:
        return SUBCLASSES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
