"""One job in a queue, as fyrd shows it."""

from __future__ import annotations

from ...machines.dialect import QueueRow


class QueueJob(QueueRow):
    """One job as the batch system lists it; `threads` are its cores on all nodes, `state` is a word in small letters."""

    @property
    def user(self) -> str:
        return self.owner

    @property
    def threads(self) -> int:
        return self.cores

    @property
    def exitcode(self) -> int | None:
        return self.exit_code

    @property
    def nodelist(self) -> list[str]:
        return [name for name in self.nodes.split(",") if name]

    @property
    def array_job(self) -> bool:
        """Whether it is an array, or an element of one."""
        return "_" in self.id or "[" in self.id

    @property
    def disappeared(self) -> bool:
        """What is listed has not vanished."""
        return False

    def get_state(self) -> str:
        return self.state

    def get_nodelist(self) -> list[str]:
        return self.nodelist

    def get_threads(self, state: str | None = None) -> int:
        """Its cores; none when it is in another state than this."""
        return self.cores if state in (None, self.state) else 0

    def get_exitcode(self) -> int | None:
        return self.exit_code

    def jobcount(self, state: str | None = None) -> int:
        """1, or 0 when it is in another state than this: elements of an array are jobs of their own here."""
        return int(state in (None, self.state))
