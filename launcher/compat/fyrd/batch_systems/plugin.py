"""What fyrd's module for a batch system can do, for each kind of queue that we have."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ....machines import registry
from ....submission import queues
from ....submission.job_options import check_arguments, options_to_string
from ..basic import kill_ids, submit_file
from ..queue import Queue
from ..queue_job import QueueJob

Row = tuple[str, str | None, str, str, str, str, list[str], int | None, int, int | None]


class Plugin:
    """One kind of queue; `local` is a pilot of this process.

    Attributes:
        PREFIX: what directives begin with.
        SUFFIX: how names of its scripts end.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.SUFFIX, self.PREFIX = "job", ""
        if kind != "local":
            system = registry.build_machine(queues.qtypes()[kind])
            assert system.directives is not None
            self.SUFFIX, self.PREFIX = system.script_suffix.lstrip("."), system.directives.prefix

    def __repr__(self) -> str:
        return f"<Plugin {self.kind}>"

    def queue_test(self, warn: bool = True) -> bool:
        """Whether jobs can be given to it from here."""
        good = self.kind == "local" or queues.is_here(self.kind)
        if warn and not good:
            warnings.warn(f"{self.kind}: its commands are not here, or do not answer", stacklevel=2)
        return good

    def normalize_job_id(self, job_id: str | int) -> tuple[str, str | None]:
        """(id, index in its array) of an id as people write it: `7_2`, `7[2].server`."""
        if self.kind == "local":
            return str(job_id), None
        name = str(job_id).partition(".")[0]
        number, mark, index = name.replace("[", "_").rstrip("]").partition("_")
        return number, index if mark and index else None

    def normalize_state(self, state: str) -> str:
        """A word as this kind of queue prints it, in the words of `ALL_STATES`."""
        word = state.strip().lower()
        return {"complete": "completed", "r": "running", "q": "pending", "h": "held", "c": "completed"}.get(word, word)

    def submit(
        self,
        file_name: str,
        dependencies: Sequence[str] | None = None,
        job: Any = None,
        args: Sequence[str] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> str:
        """Hand a script over; its id."""
        return submit_file(file_name, dependencies, qtype=self.kind, submit_args=args)

    def kill(self, job_ids: str | Iterable[str]) -> bool:
        """End these jobs; whether they were told to."""
        return kill_ids([job_ids] if isinstance(job_ids, str) else list(job_ids), self.kind)

    def queue_parser(self, user: str | None = None, partition: str | None = None) -> Iterator[Row]:
        """Each job: (id, index in its array, name, user, queue, state, nodes, how many of these, cores of each, exit code)."""
        for job in Queue(user, partition, self.kind):
            yield self._row(job)

    def _row(self, job: QueueJob) -> Row:
        number, index = self.normalize_job_id(job.id)
        nodes = [name for name in job.nodes.split(",") if name]
        each = job.cores // len(nodes) if nodes else job.cores
        return number, index, job.name, job.owner, job.queue, job.state, nodes, len(nodes), each, job.exit_code

    def parse_strange_options(self, option_dict: Mapping[str, Any]) -> tuple[list[str], dict[str, Any], list[str]]:
        """(directives of options that are no words of their own, the options that are left, words for the command line)."""
        together = {name: value for name, value in option_dict.items() if name in ("nodes", "cores", "features", "qos")}
        left = {name: value for name, value in option_dict.items() if name not in together}
        if self.kind == "local":
            return [], left, []
        return options_to_string(check_arguments(together), self.kind).splitlines(), left, []
