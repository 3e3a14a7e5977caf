"""No second copy of a job is started without proof that the first is gone. The batch system is five scripts."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answers import NO_JOBS, SAYS_GONE, answered, garbled, rows

from pilotfish.launcher.contexts.base import Done
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job.single import JobRecord
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.submission.batch_job import Phase
from pilotfish.launcher.submission.looking import look_at
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError
from pilotfish.launcher.submission.single import Script, SingleJob

# Files in $FAKE change how it behaves: `cluster` (jobs are on the cluster east), `rows` (what names of jobs end with in
# listings, `+0 +1`, `_0`), `says` (printed instead of the id), `waits` (jobs are kept in the queue until it is removed),
# `down` (nobody answers), `hidden` (left out of listings), `unknown` (listings say that there is no such job).
PROGRAMS = {
    "sbatch": """\
number=$(($(cat $FAKE/last 2>/dev/null || echo 100) + 1))
echo $number >$FAKE/last
printf '%s\\n' "$PWD|$2" >$FAKE/$number.script
(
  while [ -e $FAKE/waits ]; do sleep 0.02; done
  export SLURM_JOB_ID=$number
  [ ! -e $FAKE/array ] || export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=0
  exec setsid bash $2
) >/dev/null 2>&1 </dev/null &
echo $! >$FAKE/$number.pid
if [ -e $FAKE/says ]; then cat $FAKE/says; elif [ -e $FAKE/cluster ]; then echo "$number;east"; else echo $number; fi
""",
    "squeue": """\
if [ -e $FAKE/down ]; then echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1; fi
numbers= cluster= form=
while [ $# -gt 0 ]; do
  case $1 in
    -j) numbers=$(echo "$2" | tr , ' '); shift ;;
    -M) cluster=$2; shift ;;
    -o) form=$2; shift ;;
  esac
  shift
done
gone() { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }
[ -e $FAKE/cluster ] && [ "$cluster" = "" ] && [ "$numbers" != "" ] && gone
[ ! -e $FAKE/unknown ] || [ "$numbers" = "" ] || gone
[ ! -e $FAKE/hidden ] || exit 0
[ "$cluster" = "" ] || echo "CLUSTER: east"
[ "$numbers" != "" ] || numbers=$(cd $FAKE && ls | sed -n 's/[.]pid$//p')
for number in $numbers; do
  kill -0 $(cat $FAKE/$number.pid) 2>/dev/null || continue
  if [ "$form" = '%i|%Z|%o' ]; then echo "$number|$(cat $FAKE/$number.script)"; continue; fi
  state=RUNNING; [ ! -e $FAKE/waits ] || state=PENDING
  for row in $(cat $FAKE/rows 2>/dev/null || echo .); do echo "$number${row#.}|$state|node1"; done
done
""",
    "sacct": "exit 1\n",
    "scontrol": "exit 1\n",
    "scancel": """\
echo "$*" >>$FAKE/cancelled
[ ! -e $FAKE/cluster ] || [ "$1" = -M ] || exit 0
rm -f $FAKE/hidden
for number in "$@"; do [ ! -e $FAKE/$number.pid ] || kill -TERM -- -$(cat $FAKE/$number.pid) 2>/dev/null; done; true
""",
}

Make = Callable[..., Placement]


class World:
    """A clock that sleeping moves, and things that happen at the n-th sleep."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.sleeps = 0
        self.at: dict[int, Callable[[], object]] = {}
        self.told: list[str] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        assert self.sleeps < 300, f"the launcher waits for something that does not come: {self.told}"
        self.now += 20 * seconds  # so that a few looks are an hour
        time.sleep(0.005)  # the jobs are real, and need a little
        self.at.pop(self.sleeps, lambda: None)()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fake(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, programs = wd / "fake", wd / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def make(wd: Path, world: World, fake: Path, submission: Callable[..., Placement]) -> Make:
    """A submission of one task that writes `x` to `starts` and runs until the file `go` is there."""
    tools = {"tell": world.told.append, "clock": world.clock, "sleep": world.sleep}

    def made(command: str = "", machine: Mapping[str, Any] | None = None, **given: Any) -> Placement:
        (wd / "here/w/a").mkdir(parents=True, exist_ok=True)
        wait = "while [ ! -e ../go ]; do sleep 0.02; done"
        task = {"command": command or f"echo x >>../starts; {wait}", "task_work_path": "a"}
        return submission(task, machine={"batch_type": "Slurm", **(machine or {})}, tools=tools, **given)

    return made


def root_of(made: Placement) -> Path:
    return Path(made.context().root_for(made.hash, "w"))


def starts(made: Placement) -> int:
    return len((root_of(made) / "starts").read_text().split())


def touch(*files: Path) -> None:
    for file in files:
        file.touch()


def remove(*files: Path) -> None:
    for file in files:
        file.unlink()


def run_to_its_end(made: Placement, world: World, at: int = 7) -> None:
    """The task ends well after the settling time of listings."""
    world.at[at] = (root_of(made) / "go").touch
    assert made.run(check_interval_s=30, clean=False).over


def cancelled(fake: Path) -> list[str]:
    return (fake / "cancelled").read_text().split("\n")[:-1] if (fake / "cancelled").exists() else []


# --- ids and rows ---------------------------------------------------------------------------------------------------------


def test_a_job_of_another_cluster_is_watched_there(make: Make, fake: Path, world: World) -> None:
    (fake / "cluster").touch()
    made = make()
    run_to_its_end(made, world)
    assert (starts(made), cancelled(fake)) == (1, [])
    assert any("submitted as 101;east" in line for line in world.told)


def test_a_job_of_another_cluster_is_ended_there(
    make: Make, fake: Path, world: World, wait_until: Callable[..., None]
) -> None:
    (fake / "cluster").touch()
    made = make()
    made.run(detach=True)
    wait_until((root_of(made) / "starts").exists, "the job to start")
    assert made.cancel() == 1
    assert cancelled(fake) == ["-M east -Q 101"]


def test_an_id_of_an_older_record_without_a_cluster_is_still_watched(make: Make, fake: Path, world: World) -> None:
    """Its own claim and the list of all clusters tell where it is."""
    (fake / "says").write_text("101\n")
    (fake / "cluster").touch()
    made = make()
    run_to_its_end(made, world)
    assert (starts(made), cancelled(fake)) == (1, [])


@pytest.mark.parametrize("rows", ["+0 +1", "_[0-3%2]"])
def test_a_job_of_several_parts_is_watched_as_one(make: Make, fake: Path, world: World, rows: str) -> None:
    (fake / "rows").write_text(rows)
    made = make()
    run_to_its_end(made, world)
    assert (starts(made), cancelled(fake)) == (1, [])


@pytest.mark.parametrize("kind", ["Slurm", "SlurmJobArray"])
def test_a_controller_that_is_away_for_long_is_waited_for(make: Make, fake: Path, world: World, kind: str) -> None:
    if kind == "SlurmJobArray":
        (fake / "rows").write_text("_0")
        (fake / "array").touch()
    made = make(machine={"batch_type": kind})
    world.at[3], world.at[12] = (fake / "down").touch, (fake / "down").unlink
    run_to_its_end(made, world, at=14)
    assert (starts(made), cancelled(fake)) == (1, [])
    assert any("Unable to contact" in line for line in world.told)


def test_a_job_that_ends_well_while_the_controller_is_away_is_done(make: Make, fake: Path, world: World) -> None:
    """Its own record tells."""
    made = make()
    world.at[3] = (fake / "down").touch
    run_to_its_end(made, world, at=6)
    assert starts(made) == 1
    assert (fake / "down").exists()


# --- submitting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "queued"),
    [
        ("Submitted batch job 101\n", False),
        ("hours left:\n1200\n\n101\n", True),
        ("101\nhours left:\n1200\n", True),
        ("have fun\n", True),
        ("", False),
    ],
)
def test_whatever_a_wrapper_of_sbatch_prints_one_job_is_submitted(
    make: Make, fake: Path, world: World, says: str, queued: bool
) -> None:
    """Also when it waits in the queue and so has not written down itself who it is."""
    (fake / "says").write_text(says)
    if queued:
        (fake / "waits").touch()
        world.at[5] = (fake / "waits").unlink
    made = make()
    run_to_its_end(made, world)
    assert ((fake / "last").read_text(), starts(made), cancelled(fake)) == ("101\n", 1, [])


def test_a_job_without_an_id_that_no_listing_has_is_found_when_it_starts(make: Make, fake: Path, world: World) -> None:
    (fake / "says").write_text("have fun\n")
    for name in ("hidden", "waits"):
        (fake / name).touch()
    made = make()
    world.at[5] = partial(remove, fake / "hidden", fake / "waits")
    run_to_its_end(made, world)
    assert ((fake / "last").read_text(), starts(made)) == ("101\n", 1)
    assert any("no line of what it printed is an id: 'have fun'" in line for line in world.told)


def test_handing_over_ends_although_an_id_is_not_known(make: Make, fake: Path, world: World) -> None:
    (fake / "says").write_text("have fun\n")
    (fake / "hidden").touch()
    made = make()
    assert not made.run(detach=True).over
    (fake / "hidden").unlink()
    run_to_its_end(make(), world)
    assert ((fake / "last").read_text(), starts(made)) == ("101\n", 1)


# --- gone -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hidden", "unknown"])
def test_a_job_that_seems_to_be_gone_for_a_while_is_not_placed_again(
    make: Make, fake: Path, world: World, how: str
) -> None:
    """A minute is not enough for one that is only left out; that it is unknown the batch system must say several times."""
    made = make()
    first, last = (1, 8) if how == "hidden" else (1, 3)
    world.at[first], world.at[last] = (fake / how).touch, (fake / how).unlink
    run_to_its_end(made, world, at=last + 2)
    assert (starts(made), cancelled(fake)) == (1, [])


def test_a_job_that_goes_on_after_it_was_told_to_end_is_not_placed_again(make: Make, fake: Path, world: World) -> None:
    """It was left out of listings; then it is there again, and does not end when it is told to."""
    made = make("trap '' TERM; echo x >>../starts; while [ ! -e ../go ]; do sleep 0.02; done; echo y >>../starts")
    cancel = (fake.parent / "bin/scancel").read_text()
    (fake.parent / "bin/scancel").write_text(cancel.replace("kill -TERM", ": kill"))
    world.at[2] = (fake / "hidden").touch
    run_to_its_end(made, world, at=18)
    assert (root_of(made) / "starts").read_text() == "x\ny\n"
    assert cancelled(fake) == ["-Q 101"]
    assert any("seemed to be gone; it is waited for until it really is" in line for line in world.told)


def test_a_job_that_cannot_be_told_to_end_is_not_placed_again(make: Make, fake: Path, world: World) -> None:
    (fake.parent / "bin/scancel").write_text("#!/bin/sh\necho x >>$FAKE/asked; echo 'Unable to contact' >&2; exit 8\n")
    made = make()
    modes = [fake / "unknown", fake / "hidden"]
    world.at[2], world.at[10] = partial(touch, *modes), partial(remove, *modes)
    run_to_its_end(made, world, at=11)
    assert starts(made) == 1
    assert (fake / "asked").exists()


def test_a_job_that_was_cancelled_and_still_ends_is_not_placed_again_beside_itself(
    make: Make, fake: Path, world: World, wait_until: Callable[..., None]
) -> None:
    """The batch system gives jobs time to end."""
    made = make("trap '' TERM; echo x >>../starts; while [ ! -e ../go ]; do sleep 0.02; done; echo y >>../starts")
    made.run(detach=True)
    wait_until((root_of(made) / "starts").exists, "the job to start")
    (fake.parent / "bin/scancel").write_text("#!/bin/sh\nexit 0\n")
    made.cancel()
    again = make("trap '' TERM; echo x >>../starts; while [ ! -e ../go ]; do sleep 0.02; done; echo y >>../starts")
    run_to_its_end(again, world)
    assert re.fullmatch("x\ny\n(x\ny\n)?", (root_of(made) / "starts").read_text())
    assert any("have not ended yet: 101" in line for line in world.told)


def test_a_job_that_failed_where_nobody_answers_is_placed_again_when_somebody_does(
    make: Make, fake: Path, world: World
) -> None:
    made = make("echo x >>../starts; exit 3", machine={"retry_count": 1})
    world.at[1], world.at[6] = (fake / "down").touch, (fake / "down").unlink
    with pytest.raises(SubmissionFailedError, match="exit code 3"):
        made.run(check_interval_s=30)
    assert starts(made) == 2


def test_a_single_job_among_the_words_of_others_runs_until_its_record_is_there(
    fake: Path, wd: Path, wait_until: Callable[..., None]
) -> None:
    """Job scripts and single functions look at jobs in the same way."""
    squeue = fake.parent / "bin/squeue"
    squeue.write_text(squeue.read_text().replace("#!/bin/bash\n", "#!/bin/bash\necho Welcome\n"))
    given = {"batch_type": "Slurm", "context_type": "Local", "local_root": str(wd), "remote_root": str(wd)}
    (wd / "one").mkdir()
    job = SingleJob(JobRecord("f" * 40, parse_machine(given), str(wd / "one")))
    job.submit(Script("while [ ! -e go ]; do sleep 0.02; done"))
    assert look_at([job])[0].state is JobState.running
    (wd / "one/go").touch()
    wait_until((wd / "one" / f"{job.hash}_result.json").exists, "the record")
    wait_until(lambda: look_at([job])[0].state.ended, "the end")
    assert (look_at([job])[0].state, look_at([job])[0].exit_code) == (JobState.finished, 0)


# --- noise ----------------------------------------------------------------------------------------------------------------


# Each puts a job into the queue as `sbatch` above does, and says so in its own words; the other ends jobs.
WORDS = {
    "Slurm": ("sbatch", "$number", "scancel"),
    "SlurmJobArray": ("sbatch", "$number", "scancel"),
    "PBS": ("qsub", "$number.srv", "qdel"),
    "Torque": ("qsub", "$number.srv", "qdel"),
    "SGE": ("qsub", "$number", "qdel"),
    "LSF": ("bsub", "Job <$number> is submitted to queue <q>.", "bkill"),
    "JH_UniScheduler": ("jsub", "Job <$number> is submitted to default queue <q>.", "jctrl"),
    "Fugaku": ("pjsub", "[INFO] PJM 0000 pjsub Job $number submitted.", "pjdel"),
    "Shell": ("", "", ""),
}
ID_VARIABLES = {"SGE": "JOB_ID", "LSF": "LSB_JOBID", "JH_UniScheduler": "LSB_JOBID", "Fugaku": "PJM_JOBID"}
TAKES = """\
number=$(($(cat $FAKE/last 2>/dev/null || echo 100) + 1)); echo $number >$FAKE/last
[ -t 0 ] || [ {stdin} = no ] || cat >$FAKE/$number.script
script=$(ls -a | grep '^[.][0-9a-f]*[.]sub$')
(export {variable}={id} {array}; exec setsid bash ./$script) >/dev/null 2>&1 </dev/null & echo $! >$FAKE/$number.pid
echo "{says}"
"""


def programs(kind: str, folder: Path) -> None:
    submit, says, cancel = WORDS[kind]
    if not submit:
        return
    job_id = says if says.startswith("$") else "$number"
    text = TAKES.format(
        stdin="yes" if submit in ("bsub", "jsub") else "no",
        variable=ID_VARIABLES.get(kind, "SLURM_JOB_ID" if submit == "sbatch" else "PBS_JOBID"),
        id=job_id,
        array="SLURM_ARRAY_TASK_ID=0" if kind == "SlurmJobArray" else "",
        says=says,
    )
    for name, lines in ((submit, text), (cancel, 'echo "$*" >>$FAKE/cancelled\n')):
        (folder / name).write_text(f"#!/bin/bash\n{lines}")
        (folder / name).chmod(stat.S_IRWXU)


ACCOUNTED = {
    "Slurm": "{}|RUNNING|0:0|1|Unknown|n1\n",
    "SlurmJobArray": "{0}_0|COMPLETED|0:0|1|2|n1\n{0}_1|RUNNING|0:0|1|Unknown|n1\n",
    "LSF": "\nJob <{}>, User <ann>, Project <p>, Command <x>\nFri: Started 1 Task(s) on Host(s) <h1>;\n",
    "Fugaku": "JOB_ID JOB_NAME MD ST USER\n",
}
"""What accounting knows of jobs that run."""


class Noisy(LocalContext):
    """Answers of the batch system are garbled more often than not. What it truly says is made up of the jobs that live."""

    random = Random(0)
    batch = "Slurm"
    fake = Path()

    def run(self, command: str, **options: Any) -> Done:
        if self.batch == "Shell":
            done = super().run(users(command), **options)
            return self._noisy(done) if "$state $id" in command and done.out else done
        if "esc=" in command or not re.search("squeue|qstat|bjobs|jjobs|pjstat|sacct|qacct|bhist|scontrol", command):
            return super().run(users(command), **options)
        return answered(command, self._answer)[1]

    def _answer(self, command: str) -> Done:
        if re.search(r"%Z|qselect|'\*' 2>|bjobs -p", command):
            return Done(0, "", "")  # nobody looks for scripts
        living = [path.stem for path in self.fake.glob("*.pid") if os.path.exists(f"/proc/{path.read_text().strip()}")]
        if re.search(r"sacct|qacct|bhist|pjstat -H", command):
            told = "".join(ACCOUNTED.get(self.batch, "").format(name) for name in living)
            return self._noisy(Done(0, told, "")) if told else Done(0, "", "")
        if living and "qstat -j" in command:
            return self._noisy(Done(0, f"====\njob_number:                 {living[0]}\nowner:     ann\n", ""))
        if living:
            return self._noisy(Done(0, rows(self.batch, living), ""))
        if "qstat -u" in command:
            return Done(0, NO_JOBS["SGE"], "")
        return Done(1, "", SAYS_GONE[self.batch])

    def _noisy(self, done: Done) -> Done:
        if self.random.random() < 0.4:
            return done
        return self.random.choice(
            [garbled(done.out, self.random), Done(0, f"Welcome!\n{done.out}", ""), Done(0, "", "")]
        )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", WORDS)
def test_garbled_listings_never_start_a_job_twice(
    make: Make, fake: Path, world: World, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(kind, fake.parent / "bin")
    Noisy.random, Noisy.batch, Noisy.fake = Random(seed), kind, fake
    monkeypatch.setattr(
        Placement, "context", lambda self: Noisy(self.local_work, self.description.machine.remote_root, {})
    )
    made = make(machine={"batch_type": kind})
    run_to_its_end(made, world, at=15)
    assert (starts(made), cancelled(fake)) == (1, [])
    assert {job.phase for job in made.peek().jobs.values()} == {Phase.DONE}
