"""A class for each context: `SSHContext(...)` makes a BoundContext, and `isinstance(context, SSHContext)` asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...description import arguments, names
from ...description.machine import parse_machine
from ...submission.bound_context import BoundContext

_ANY = "Shell"
"""A context knows no batch system, but a machine file has one."""


class _Kind(type):
    """Of a class that only stands for contexts of one kind; with an empty `context_type`, of all."""

    context_type: str

    def __call__(
        cls,
        local_root: str = ".",
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> BoundContext:
        given = {"local_root": local_root, "remote_root": remote_root, "remote_profile": dict(remote_profile or {})}
        kind = {"context_type": cls.context_type} if cls.context_type else {}
        return BoundContext(parse_machine({"batch_type": _ANY, **given, **kind, **more}))

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, BoundContext) and cls.context_type in ("", instance.context_type)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls or not cls.context_type


class BaseContext(metaclass=_Kind):
    """A context of the kind that `context_type` says."""

    context_type: ClassVar[str] = ""
    options = set(names.CONTEXTS.values())

    @classmethod
    def load_from_dict(cls, context_dict: Mapping[str, Any]) -> BoundContext:
        """Of the keys of a machine; its `batch_type` may be missing."""
        return BoundContext(parse_machine({"batch_type": _ANY, **context_dict}))

    @classmethod
    def machine_arginfo(cls) -> Any:
        """What a machine with this context has besides the keys of all machines."""
        return arguments.tree(arguments.context(cls.context_type), dict)

    @classmethod
    def machine_subfields(cls) -> list[Any]:
        """The keys that a machine with this context has besides."""
        branch = arguments.context(cls.context_type)
        return [arguments.tree(branch.below[key.name], dict) for key in branch.keys if key.name in branch.below]


class LocalContext(BaseContext):
    """A folder of its own on this machine."""

    context_type = "LocalContext"


class LazyLocalContext(BaseContext):
    """The project's own folder on this machine."""

    context_type = "LazyLocalContext"


class SSHContext(BaseContext):
    """Another machine, by SSH."""

    context_type = "SSHContext"
