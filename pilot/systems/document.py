"""The resources document of `--slurm-resources-file`, by which a governor tells its partitions what they have."""

from __future__ import annotations

from typing import Any

import msgspec

from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from . import slurm
from .base import Allocation, HostEnvironment, Source, check_nodes

OPTION = "--slurm-resources-file"
BEGIN_OPTION, END_OPTION = "--slurm-limit-nodes-range-begin", "--slurm-limit-nodes-range-end"
"""Names that the first user of these documents knows; a part of the nodes can be taken of any allocation."""


class _Gpus(msgspec.Struct):
    """`{"class": "CRBind", "data": {"free": [ids]}}`, or by number `{"class": "CR", "data": {"total": 2, "used": 0}}`."""

    data: dict[str, Any]

    @property
    def ids(self) -> tuple[str, ...]:
        if "free" in self.data:
            return tuple(map(str, self.data["free"]))
        return tuple(map(str, range(int(self.data["total"]) - int(self.data.get("used", 0)))))


class _Crs(msgspec.Struct, rename={"gpu": "GPU"}, forbid_unknown_fields=True):
    gpu: _Gpus | None = None


class _Node(msgspec.Struct):
    name: str
    free_cores: list[str]
    crs: _Crs | None = None


class _Document(msgspec.Struct):
    type: str
    nodes: list[_Node]
    binding: bool = False


def find(host_env: HostEnvironment, path: str) -> Allocation:
    """The free cores and GPUs of its nodes. Raises SettingsError for a file that is not such a document."""
    where = f'{OPTION} "{path}"'
    text = host_env.read(path)
    if text is None:
        raise SettingsError("cannot be read", where=where)
    try:
        document = msgspec.json.decode(text, type=_Document)
        nodes = [
            NodeSpec(
                node.name,
                tuple(node.free_cores),
                node.crs.gpu.ids if node.crs and node.crs.gpu else (),
                0,
                document.binding,
            )
            for node in document.nodes
            if node.free_cores
        ]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"is not a resources document: {error}", where=where) from error
    if document.type not in ("SLURM", "LOCAL"):
        raise SettingsError(f'type "{document.type}" is neither SLURM nor LOCAL', where=where)
    if not nodes:
        raise SettingsError("has no node with a free core", where=where)
    source = Source("nodes, cores", f"{len(nodes)} nodes", path)
    if document.type == "LOCAL":
        return Allocation("given", tuple(check_nodes(nodes, where)), sources=(source,))
    job_id, ends_s, end = slurm.job_and_end(host_env)
    return Allocation("slurm", tuple(check_nodes(nodes, where)), job_id, ends_s, (source, *end))
