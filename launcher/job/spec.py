"""One batch job as data: what it runs, where, and which attempt it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from ..description.resources import Resources
from ..description.task import Task


@dataclass(frozen=True)
class JobVariables:
    """Environment variables in which a batch system tells a job about itself; of several the first that is set counts.

    Attributes:
        id: its id.
        element: which element of an array it is; `part`: the same, where elements share the work and each has a record.
        submit_host, submit_folder: where it was submitted.
        nodes: its nodes, as a list; `node_file`: a file whose first words are those.
    """

    id: tuple[str, ...] = ()
    element: tuple[str, ...] = ()
    submit_host: tuple[str, ...] = ()
    submit_folder: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    node_file: tuple[str, ...] = ()
    part: str = ""

    def followed_by(self, other: JobVariables) -> JobVariables:
        """These, then those of the other that are not among them."""
        both: dict[str, Any] = {}
        for name in [each.name for each in fields(self) if each.name != "part"]:
            both[name] = tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
        return replace(self, **both)


def is_id(text: str) -> bool:
    """Whether a batch system may have given this id; it has nothing in it that a shell would act on but `;`."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,:;+@\[\]_-]{0,2000}", text) is not None


@dataclass(frozen=True)
class Needed:
    """A job that must have ended well before another starts; of one that is not ours only the id is known.

    Attributes:
        record: what the job itself writes when its shell ends.
        end: where its end is written down.
    """

    id: str
    record: str = ""
    end: str = ""


@dataclass(frozen=True)
class JobToPlace:
    """One batch job, complete: rendering it twice gives the same text.

    Attributes:
        hash: the job's hash, 40 hex digits.
        name: what the batch system shall show, e.g. `dp-0123abcd`; already fit for every system.
        tasks: the tasks in the order in which they shall start.
        hashes: the tasks' hashes, in the same order.
        root: the submission's folder on the machine.
        attempt: 0 for the first time, counts up when the job is placed again.
        pending: for arrays: positions of tasks without a good result yet; None for all.
        template: text of the header template file, when the resources name one.
        body: shell lines that run the work, instead of one block for each task (a pilot).
        forward_common_files, backward_common_files: patterns below the root of what all jobs need, and may make.
    """

    hash: str
    name: str
    tasks: tuple[Task, ...]
    hashes: tuple[str, ...]
    resources: Resources
    root: str
    attempt: int = 0
    pending: tuple[int, ...] | None = None
    template: str | None = None
    body: str | None = None
    forward_common_files: tuple[str, ...] = ()
    backward_common_files: tuple[str, ...] = ()

    @property
    def script_name(self) -> str:
        return f".{self.hash}.sub"

    @property
    def run_name(self) -> str:
        return f".{self.hash}.sub.run"

    @property
    def id_file(self) -> str:
        """Where the id of this attempt is kept on the machine; `<hash>_job_id` has the last one, for DPDispatcher."""
        return f".{self.hash}.{self.attempt}.id"

    @property
    def claim_file(self) -> str:
        """Which batch job runs this attempt: written by the job itself as it starts."""
        return f".{self.hash}.{self.attempt}.claim"
