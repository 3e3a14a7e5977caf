"""Work and needs in words, for the reasons of decisions."""

from __future__ import annotations

from ...pilot.model.units import form_bytes
from ...pilot.model.walltime import form
from ...pilot.wire.demand import ShapeDemand
from .fitting import Left, length_s


def needs(shape: ShapeDemand) -> str:
    """What one task needs, in words: `2 nodes of 4 cores, 1 GPU`."""
    parts = []
    if shape.cores is not None:
        parts.append(f"{shape.cores[0]} core{'s' if shape.cores[0] != 1 else ''}")
    if shape.gpus:
        parts.append(f"{shape.gpus} GPU{'s' if shape.gpus != 1 else ''}")
    if shape.mem_bytes:
        parts.append(form_bytes(shape.mem_bytes))
    parts += [f"{amount:g} {name}" for name, amount in shape.named.items()]
    if shape.tags:
        parts.append(f"tags {' '.join(shape.tags)}")
    text = ", ".join(parts) or "all cores"
    if shape.nodes is None:
        return text
    return f"{shape.nodes[0]} node{'s' if shape.nodes[0] != 1 else ''} of {text}"


def named(left: Left) -> str:
    """What is to be done by nodes that are not there: `120 tasks like sim:7 (2 cores, 10m)`."""
    shape, seconds = left.shape, length_s(left.shape)
    time = "" if seconds is None else f", {form(max(1, round(seconds)))}"
    tasks = "1 task" if left.tasks == 1 else f"{left.tasks} tasks"
    return f"{tasks} like {shape.first} ({needs(shape)}{time})"
