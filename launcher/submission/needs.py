"""Jobs that must have ended well before another starts: not all batch systems see to that, so the job looks itself.

Some batch systems only wait for the end, however it was; others take a job that they have forgotten for one that ended
well. And most leave a job that can never start in the queue for ever.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Sequence

from ..contexts.base import Context
from ..contexts.shell import Text, sh, word, words
from ..job import ends, script
from ..job import record as result
from ..job.spec import Needed
from ..job.states import Reason
from ..machines.base import BatchSystem

_PATIENCE_S = 90
"""So long the files of a job that has ended may take to be seen on another node."""

# Gives up after a while: nobody knows how that job ended, so it has not ended well.
_CHECK = """\
pf_known="${pf_known-} "{ids}
pf_needs() { # id, record, end
  local tries={patience}
  until [ -s "$2" ] || [ -s "$3" ] || [ $((tries -= 1)) -lt 0 ]; do sleep 1; done
  head -n 1 "$2" 2>/dev/null | grep -q '"exit_code": 0, "start_s"' && return
  grep -qs '"state": "finished"' "$3" && return
  printf '%s\\n' {failed}": job $1" >|{reason}
  echo "job $1, on which this one depends, has not ended well: nothing is run" >&2
  exit 1
}"""


def check(needed: Sequence[Needed], folder: str, job_hash: str) -> tuple[Text, ...]:
    """Shell lines for the script of a job that needs these; they end it when one of ours has not ended well."""
    ours = [each for each in needed if each.record]
    if not ours:
        return ()
    text = sh(
        _CHECK,
        ids=word(" ".join(each.id for each in ours) + " "),
        patience=_PATIENCE_S,
        failed=word(Reason.DEPENDENCY),
        reason=word(posixpath.join(folder, script.reason_file(job_hash))),
    )
    calls = [sh("pf_needs {job}", job=words((each.id, each.record, each.end))) for each in ours]
    return (text, *calls)


def outcomes(context: Context, machine: BatchSystem, needed: Iterable[Needed]) -> dict[Needed, bool]:
    """Of those of these that are known to be over: whether they have ended well."""
    found = list(dict.fromkeys(needed))
    if not found:
        return {}
    listed = machine.query(context, [each.id for each in found])
    read = context.read([path for each in found if each.record for path in (each.record, each.end)])
    known = {}
    for each in found:
        told, record = ends.read(read.get(each.end, b"")), result.parse(read.get(each.record, b""))
        status = listed.get(each.id)
        if told is not None:
            known[each] = not told.reason
        elif record is not None:
            known[each] = record.exit_code == 0
        elif status is not None and status.state.ended and (status.reason or not each.record):
            known[each] = not status.reason
    return known


def note_id(context: Context, kept: ends.Folder, batch_type: str, job_id: str, folder: str, job_hash: str) -> None:
    """Write down which job has this id, so that others can depend on it by that."""
    path = kept.by_id(batch_type, job_id)
    if path is not None:
        context.write({path: json.dumps({"folder": folder, "hash": job_hash}).encode()})


def by_ids(context: Context, kept: ends.Folder, batch_type: str, ids: Sequence[str]) -> list[Needed]:
    """Of these jobs what we know of them."""
    paths = {job_id: kept.by_id(batch_type, job_id) for job_id in ids}
    read = context.read([path for path in paths.values() if path is not None])
    return [_known(job_id, read.get(paths[job_id] or "", b""), kept) for job_id in ids]


def _known(job_id: str, text: bytes, kept: ends.Folder) -> Needed:
    try:
        found = json.loads(text)
        folder, name = str(found["folder"]), str(found["hash"])
    except (ValueError, KeyError, TypeError):
        return Needed(job_id)
    if not re.fullmatch(r"[0-9a-f]{40}", name):
        return Needed(job_id)
    return of(job_id, folder, name, kept)


def of(job_id: str, folder: str, job_hash: str, kept: ends.Folder) -> Needed:
    """One of our own jobs."""
    return Needed(job_id, posixpath.join(folder, f"{job_hash}_result.json"), kept.of(job_hash))
