"""One batch job as this user knows it: the record that every handle, dump and cache file of the job points to.

A batch job outlives the program that submitted it, and any number of programs look at it later. What is known of it is
therefore in one place, `$PILOTFISH_HOME/batch-jobs/<hash>.json` (`store.py`), and nobody keeps a state of their own:

* `AsyncResult`, `fyrd.Job` and `pilotfish job` hold a job by its hash and tell what its record tells.
* A dump or a cache file is a copy of the record. Where the record itself is at hand, that counts; the copy serves another
  host, or somebody who has removed the record.
* The jobs of a submission, DPDispatcher's `Job` among them, have theirs in the submission's journal, which also knows their
  tasks; `pilotfish submissions` shows both kinds.

Two facts are not decided here, because programs of other users and hosts must agree on them. They are on the job's machine:
which batch job runs this attempt (the claim, `script.py`) and how it ended (`ends.py`; the first who sees it writes it down).

Invariants:

1. The record is on disk as INTENDED before the batch system is asked. A program that dies may leave a job without an id,
   never a job without a record.
2. A step starts from what is on disk, under the store's lock. Of two programs the later one builds on the earlier one.
3. An end is final. Another attempt is another record with `attempt` + 1, because all names of files on the machine come from
   the hash, and the batch job of the earlier attempt may be where it cannot be seen. Only what was REFUSED, and so has never
   run, is handed over again under its own name.
4. A record stays until somebody asks for its removal, and no handle brings it back afterwards.

Example: `JobScript.submit` makes a NEW record, saves it as INTENDED, hands the script over and notes PLACED with the id.
The program is killed. Another one loads the dump, looks (RUNNING is noted), looks again (the end is written on the machine and
then here: ENDED). A third one that was waiting all the time finds the end in the record and asks nobody.

Rejected: a state in each dump (three programs told three different ends); one journal for all jobs (a journal has one writer);
the record on the machine alone (listing the jobs would mean connecting to every machine); the batch system's id as the name of
the record (it is known too late, and is used again).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from ...pilot.model.errors import IllegalTransitionError
from ..description.machine import MachineDescription, machine_to_dict, parse_machine
from .ends import Folder
from .spec import Needed, is_id
from .states import JobState, Reason, Status


class Phase(Enum):
    """How far a job has come; `state` says more while it is PLACED."""

    NEW = "new"
    """The batch system has not been asked."""
    INTENDED = "intended"
    """It is being handed over, or the program that did that has died: the batch system may have it."""
    PLACED = "placed"
    REFUSED = "refused"
    """The batch system has said no, or something before it has failed; nothing has run."""
    ENDED = "ended"


_STEPS: dict[Phase, set[Phase]] = {
    Phase.NEW: {Phase.INTENDED, Phase.REFUSED},
    Phase.INTENDED: {Phase.INTENDED, Phase.PLACED, Phase.REFUSED, Phase.ENDED},
    Phase.PLACED: {Phase.PLACED, Phase.ENDED},
    Phase.REFUSED: {Phase.INTENDED},
    Phase.ENDED: {Phase.ENDED},
}


@dataclass(frozen=True)
class JobRecord:
    """One attempt at one batch job.

    Attributes:
        hash: 40 hex digits that name it, and its files on the machine, for ever.
        machine: where it runs; secrets are only in memory.
        folder: absolute, on the machine.
        name: what the batch system shows.
        maker: what made it, e.g. `JobScript`.
        attempt, previous: how often the same was submitted before, and the hash of the attempt before.
        id: the batch system's, with its cluster; empty while it is not known.
        state, why: where it was when somebody looked last, and what it waited for in the batch system's words.
        end: how it ended, for good; of a refused job the words of who refused it.
        after: jobs that must have ended well before it starts.
        ends: where ends are written down on the machine.
        out, err: files with its output, absolute or below its folder; empty when the batch system chooses them.
        epilogue: a script that runs here when the job is over.
        epilogue_ran: it has run, or need not run any more.
        fetched: what it printed and returned has been brought home.
        elements: of an array: the indexes of its elements, each of which writes a record of its own.
        created_s, submitted_s: seconds since the epoch.
    """

    hash: str
    machine: MachineDescription
    folder: str
    name: str = ""
    maker: str = ""
    attempt: int = 0
    previous: str = ""
    phase: Phase = Phase.NEW
    id: str = ""
    state: JobState = JobState.unsubmitted
    why: str = ""
    end: Status | None = None
    after: tuple[Needed, ...] = ()
    ends: Folder | None = None
    out: str = ""
    err: str = ""
    epilogue: str = ""
    epilogue_ran: bool = False
    fetched: bool = False
    created_s: float = 0.0
    submitted_s: float | None = None
    elements: tuple[int, ...] = ()

    @property
    def status(self) -> Status:
        """What is known without asking anybody."""
        return self.end or Status(self.state, why=self.why)

    @property
    def over(self) -> bool:
        return self.phase in (Phase.ENDED, Phase.REFUSED)

    @property
    def record_files(self) -> tuple[str, ...]:
        """What the job itself writes when its shell ends, below its folder; of an array each element."""
        return tuple(f"{self.hash}_result.{each}.json" for each in self.elements) or (f"{self.hash}_result.json",)

    # --- steps ----------------------------------------------------------------------------------------------------------

    def intended(self, now_s: float) -> JobRecord:
        """The batch system is about to be asked."""
        return replace(self._to(Phase.INTENDED), submitted_s=now_s, end=None)

    def placed(self, job_id: str) -> JobRecord:
        """The batch system has it under this id."""
        if self.phase is Phase.ENDED:  # somebody else has found it, and seen its end
            return replace(self, id=self.id or job_id)
        return replace(self._to(Phase.PLACED), id=job_id)

    def refused(self, why: str) -> JobRecord:
        """Nothing runs, and `why` says why not."""
        if self.phase in (Phase.PLACED, Phase.ENDED):  # another program has found that the batch system has it
            return self
        return replace(self._to(Phase.REFUSED), end=Status(JobState.failed, why, Reason.LAUNCH))

    def seen(self, listed: Status) -> JobRecord:
        """Somebody has looked: it is not over."""
        if self.phase is not Phase.PLACED or listed.state is JobState.unknown:
            return self
        return replace(self, state=listed.state, why=listed.why)

    def ended(self, end: Status) -> JobRecord:
        """It is over; what was written first stays."""
        if self.phase is Phase.ENDED:
            return self
        return replace(self._to(Phase.ENDED), state=end.state, end=end)

    def again(self) -> JobRecord:
        """The record of another attempt at the same."""
        fresh = JobRecord(new_hash(), self.machine, self.folder, self.name, self.maker, self.attempt + 1, self.hash)
        return replace(fresh, epilogue=self.epilogue)

    def _to(self, phase: Phase) -> JobRecord:
        if phase not in _STEPS[self.phase]:
            raise IllegalTransitionError(f"from {self.phase.value} to {phase.value}", where=f"job {self.hash[:10]}")
        return replace(self, phase=phase)


def new_hash() -> str:
    return secrets.token_hex(20)


# --- as plain data --------------------------------------------------------------------------------------------------------


def to_dict(record: JobRecord) -> dict[str, Any]:
    """As JSON can have it; without secrets."""
    fields = {name: getattr(record, name) for name in JobRecord.__dataclass_fields__}
    return fields | {
        "machine": machine_to_dict(record.machine),
        "phase": record.phase.value,
        "state": record.state.name,
        "end": None if record.end is None else asdict(record.end) | {"state": record.end.state.name},
        "after": [asdict(each) for each in record.after],
        "ends": None if record.ends is None else asdict(record.ends),
    }


def from_dict(found: Mapping[str, Any]) -> JobRecord:
    """Raises KeyError, TypeError, ValueError or DescriptionError for what is not a record.

    Dumps may come from anywhere, and hash and id become part of commands.
    """
    fields = dict(found)
    if not re.fullmatch(r"[0-9a-f]{40}", fields["hash"]) or not isinstance(fields["folder"], str):
        raise ValueError("hash, folder: not those of a job")
    if fields["id"] and not is_id(fields["id"]):
        raise ValueError(f"id: {fields['id']!r} is not one of a batch system")
    end, kept = fields["end"], fields["ends"]
    fields["machine"] = parse_machine(fields["machine"])
    fields["phase"], fields["state"] = Phase(fields["phase"]), JobState[fields["state"]]
    fields["end"] = None if end is None else Status(**{**end, "state": JobState[end["state"]]})
    fields["after"] = tuple(Needed(**each) for each in fields["after"])
    fields["elements"] = tuple(int(each) for each in fields.get("elements", ()))
    fields["ends"] = None if kept is None else Folder(**kept)
    return JobRecord(**fields)
