"""`pilotfish resources --here`: what a pilot would find if it were started here, and where each fact was read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

import click

from .console import print_json, show
from .systems import document
from .systems.base import Allocation
from .systems.detect import detect
from .systems.host_env import this_host
from .systems.hostlist import compressed


@click.command("resources")
@click.option("--here", is_flag=True, help="What this machine or allocation gives, without a pilot.")
@click.option("--resources", default="auto", show_default=True, help="The batch system to ask, or local.")
@click.option("--nodes", help="Virtual nodes, as for the service.")
@click.option(document.OPTION, "file", help="A resources document, as for the service.")
@click.option(document.BEGIN_OPTION, "begin", type=int, help="First node to use, by position from 0.")
@click.option(document.END_OPTION, "end", type=int, help="The node after the last one to use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def resources_here(
    here: bool, resources: str, nodes: str | None, file: str | None, begin: int | None, end: int | None, as_json: bool
) -> None:
    """Show what a pilot would find if it were started here, and where each fact was read."""
    found = detect(this_host(os.environ), nodes, resources, (begin, end), file)
    if as_json:
        shown = asdict(found) | {"sources": [source._asdict() for source in found.sources]}
        print_json(shown)
        return
    for line in lines(found):
        show(line)


def lines(found: Allocation) -> Iterator[str]:
    """What there is, as text: head, a table of the nodes, a table of the sources."""
    job = f", job {found.job_id}" if found.job_id else ""
    end = (
        "no end is known" if found.ends_s is None else f"ends {datetime.fromtimestamp(found.ends_s):%Y-%m-%d %H:%M:%S}"
    )
    yield f"{found.kind}{job}, {end}"
    yield ""
    rows = [
        (
            node.name,
            str(len(node.core_ids)),
            compressed(node.core_ids),
            "yes" if node.bind else "no",
            f"{len(node.gpu_ids)}: {','.join(node.gpu_ids)}" if node.gpu_ids else "-",
            f"{node.mem_bytes / 2**30:.1f} GiB" if node.mem_bytes else "-",
        )
        for node in found.nodes
    ]
    yield from _table([("node", "cores", "ids", "bound", "GPUs", "memory"), *rows])
    yield ""
    yield from _table([("fact", "value", "read from"), *found.sources])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
