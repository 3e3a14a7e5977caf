"""What functions return, and how jobs of one name and dependents keep apart: nothing from a machine is believed unchecked."""

from __future__ import annotations

import base64
import hmac
import json
import math
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import Sshd

from pilotfish import fyrd

SHELL = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("HOME", str(wd))


@pytest.fixture(params=["local", "machine"])
def place(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Where a job runs: in a pilot of ours, or as a job of a machine."""
    options = {"syspaths": [HERE], "name": "calc"}
    if request.param == "machine":
        yield {"machine": SHELL, **options}
        return
    with fyrd.JobQueue(cores=2) as made:
        yield {"qtype": "local", "queue": made, **options}


@pytest.fixture
def machine() -> dict[str, Any]:
    return {"machine": SHELL, "syspaths": [HERE], "name": "calc"}


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class TwoWords(Exception):
    """Cannot be made again from its text, as `pickle` tries."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Trap:
    """Runs code where it is loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("sprung"),))


def same(*values: Any, **named: Any) -> Any:
    return (values, named) if named else values[0] if len(values) == 1 else list(values)


def trap() -> Any:
    return Trap()


def fail_with(kind: type[Exception], *args: Any) -> None:
    raise kind(*args)


# --- jobs of one name ---------------------------------------------------------------------------------------------------------


def test_functions_of_one_name_return_their_own_results(place: dict[str, Any]) -> None:
    """All written before the first one runs."""
    jobs = [fyrd.make_job_file(same, [number], **place) for number in range(3)]
    assert fyrd.get([job.submit() for job in jobs]) == [0, 1, 2]
    assert {job.name for job in jobs} == {"calc"}
    assert len({path for job in jobs for path in [*job.files, job.outfile, job.errfile, job.poutfile]}) == 15


def test_commands_of_one_name_print_their_own_output(place: dict[str, Any]) -> None:
    jobs = [fyrd.submit(f"sleep 0.2; echo {number}; echo e{number} >&2", **place) for number in range(3)]
    assert fyrd.get(jobs) == ["0\n", "1\n", "2\n"]
    assert [job.stderr for job in jobs] == ["e0\n", "e1\n", "e2\n"]


def test_a_decorated_function_may_be_called_again(machine: dict[str, Any]) -> None:
    called = fyrd.jobify(**machine)(same)
    assert fyrd.get([called(1), called(2)]) == [1, 2]


def test_a_job_that_runs_again_has_new_files(machine: dict[str, Any]) -> None:
    job = fyrd.submit("echo x", **machine)
    first = (job.get(), job.outfile)
    assert job.resubmit().get() == first[0]
    assert (job.name, job.outfile != first[1]) == ("calc", True)


def test_names_are_no_paths(wd: Path, machine: dict[str, Any]) -> None:
    names = ["a b", "../up", "-x", "a/b", "ä"]
    with fyrd.JobQueue(cores=1) as queue:
        here = {"qtype": "local", "queue": queue}
        jobs = [
            fyrd.submit("echo x", **{**options, "name": name, "runpath": "run"})
            for name in names
            for options in (machine, here)
        ]
        assert fyrd.get(jobs) == ["x\n"] * 10
    assert [job.name for job in jobs[::2]] == names
    assert {path.parent.name for path in wd.rglob("*.cluster.*")} == {"run"}


# --- arguments ----------------------------------------------------------------------------------------------------------------


class Array:
    """Like one of numpy: has a length, can be gone through, and is neither true nor false."""

    def __repr__(self) -> str:  # the test's name
        return "Array"

    def __len__(self) -> int:
        return 2

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


@pytest.mark.parametrize(
    "value", [3, 0, False, 1.5, "abc", "", b"ab", {}, {"a": 1}, {1, 2}, range(3), Array()], ids=repr
)
def test_anything_but_a_list_or_a_tuple_is_one_argument(value: Any) -> None:
    (found,) = fyrd.Job(same, value, machine=SHELL).args
    assert found is value


def test_lists_tuples_and_iterators_are_the_arguments() -> None:
    for given in ([1, 2], (1, 2), iter([1, 2])):
        assert fyrd.Job(same, given, machine=SHELL).args == [1, 2]
    assert fyrd.Job(same, None, machine=SHELL).args == []


def test_a_single_argument_arrives(machine: dict[str, Any]) -> None:
    jobs = [fyrd.submit(same, value, **machine) for value in (3, "abc")]
    assert fyrd.get([*jobs, fyrd.submit("echo", "a file.txt", **machine)]) == [3, "abc", "a file.txt\n"]


# --- what comes back ----------------------------------------------------------------------------------------------------------

PLAIN: list[Any] = [
    *[None, True, 0, -(2**200), 1.5, -0.0, math.inf, 2j, "ä\n\ud800", b"\x00\xff", bytearray(b"x"), (), (1,), [[]]],
    *[{1, 2}, frozenset("a"), {"!": "tuple", 1: (2,), (1, "a"): None}, ["list", [1]], ["tuple"]],
]


def test_plain_values_come_back_as_they_were(machine: dict[str, Any]) -> None:
    """With their exact types."""
    found = fyrd.submit(same, [[*PLAIN, math.nan]], **machine).get()
    assert repr(found) == repr([*PLAIN, math.nan])


def test_other_values_come_back_from_this_machine(machine: dict[str, Any]) -> None:
    assert fyrd.submit(same, Point(4), **machine).get().x == 4


def forged(job: fyrd.Job) -> list[bytes]:
    trap = pickle.dumps((True, Trap(), ""))
    envelope = json.dumps(
        {"good": True, "type": "x", "pickle": base64.b64encode(pickle.dumps(Trap())).decode()}
    ).encode()
    own = Path(job.poutfile).read_bytes()
    return [
        trap,
        envelope,
        b"0" * 64 + b"\n" + envelope,
        own[:-1] + b" ",
        own.partition(b"\n")[0] + b"\n" + envelope,
        b"",
    ]


def test_files_that_do_not_carry_the_jobs_key_are_not_loaded(machine: dict[str, Any], wd: Path) -> None:
    """Planted ones, changed ones, and that of another job."""
    job, other = fyrd.submit(same, 1, **machine), fyrd.submit(same, 2, **machine)
    assert fyrd.wait([job, other])
    for text in [*forged(job), Path(other.poutfile).read_bytes()]:
        Path(job.poutfile).write_bytes(text)
        with pytest.raises(fyrd.ClusterError, match="does not carry the job's key"):
            job.get(cleanup=False)
        assert not (wd / "sprung").exists()


BROKEN: list[Any] = [
    *[[], 1, {}, {"good": True}, {"good": True, "value": {"a": 1}}, {"good": True, "value": ["eval", "1"]}],
    *[{"good": True, "value": ["list"]}, {"good": True, "value": []}, {"good": True, "value": ["set", [["list", []]]]}],
    *[{"good": True, "type": "x", "pickle": "!"}, {"good": False}, {"good": 1, "value": 2}],
]


def test_what_the_machine_itself_garbles_is_an_error_of_ours(machine: dict[str, Any], wd: Path) -> None:
    """It has the key; and only kinds of exceptions that are built in are made of what it says."""
    job = fyrd.submit(same, 1, **machine)
    job.wait()
    key = bytes.fromhex(re.findall(r"fromhex\('(\w{64})'\)", Path(job.files[0]).read_text())[0])

    def got(found: Any) -> Any:
        text = found if isinstance(found, bytes) else json.dumps(found).encode()
        Path(job.poutfile).write_bytes(hmac.new(key, text, "sha256").hexdigest().encode() + b"\n" + text)
        return job.get(cleanup=False, save=False)

    for found in [*BROKEN, b"", b"\xff", b"[" * 100000]:
        with pytest.raises(fyrd.ClusterError, match="cannot be read"):
            got(found)
    for kind in (
        "builtins.exit",
        "builtins.UnicodeDecodeError",
        "os.system",
        "",
        "builtins.SystemExit",
        "builtins.object",
    ):
        with pytest.raises(fyrd.ClusterError, match="text"):
            got({"good": False, "type": kind, "text": "text", "args": ["list", ["touch sprung"]], "trace": ""})
    assert got({"good": True, "value": ["tuple", [1]]}) == (1,)
    assert not (wd / "sprung").exists()


def test_a_call_that_somebody_has_changed_is_not_made(wd: Path) -> None:
    """On the machine nothing is loaded that was not submitted either."""
    job = fyrd.make_job_file(same, 1, machine=SHELL, syspaths=[HERE])
    next(path for path in map(Path, job.files) if path.name.endswith(".in")).write_bytes(pickle.dumps((Trap(), (), {})))
    with pytest.raises(RuntimeError, match="is not what was submitted"):
        job.submit().get()
    assert not (wd / "sprung").exists()


def test_the_key_is_for_this_user_only(wd: Path) -> None:
    job = fyrd.make_job_file(same, 1, machine=SHELL)
    assert {Path(path).stat().st_mode & 0o077 for path in job.files} == {0}


@pytest.fixture
def far(wd: Path, sshd: Sshd) -> dict[str, Any]:
    machine = {
        "batch_type": "Shell",
        "context_type": "SSH",
        "local_root": ".",
        "remote_root": str(wd / "there"),
        "remote_profile": sshd.profile,
    }
    return {"machine": machine, "syspaths": [HERE], "python": sys.executable}


def test_another_machine_sends_data_and_runs_nothing_here(far: dict[str, Any], wd: Path) -> None:
    """Not even what it has signed, unless it is trusted: what was refused can still be asked for."""
    given: list[tuple[Callable[..., object], object]] = [
        (trap, []),
        (same, Point(4)),
        (fail_with, (KeyError, 7)),
        (fail_with, (TwoWords, "a", "b")),
    ]
    trapped, point, known, unknown = [fyrd.submit(function, args, **far) for function, args in given]
    for job, kind in ((trapped, "Trap"), (point, "Point")):
        with pytest.raises(fyrd.ClusterError, match=rf"the result is a .*{kind}, .*trust_pickle=True"):
            job.get()
    assert not (wd / "sprung").exists()
    point.options["trust_pickle"] = True
    assert point.get().x == 4
    with pytest.raises(KeyError, match="7") as caught:
        known.get()
    with pytest.raises(fyrd.ClusterError, match=r"TwoWords: a b") as told:
        unknown.get()
    assert ["in fail_with" in str(each.value.__cause__) for each in (caught, told)] == [True, True]


def test_an_exception_that_cannot_be_made_again_is_told(machine: dict[str, Any]) -> None:
    with pytest.raises(fyrd.ClusterError, match=r"TwoWords: a b"):
        fyrd.submit(fail_with, (TwoWords, "a", "b"), **machine).get()


def test_a_function_that_ends_the_program_has_no_result(machine: dict[str, Any]) -> None:
    with pytest.raises(fyrd.ClusterError, match="exit code 3"):
        fyrd.submit(exit, 3, **machine).get()


# --- cores --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qtype", "options", "expected"),
    [
        ("slurm", {"cores": 4, "nodes": 2}, ["--nodes 2", "--ntasks-per-node 1", "--cpus-per-task 4"]),
        ("torque", {"cores": 4, "nodes": 2}, ["-l nodes=2:ppn=4"]),
        ("pbs", {"cores": 4, "nodes": 2}, ["-l select=2:ncpus=4"]),
        ("lsf", {"cores": 4, "nodes": 2}, ["-n 8", "-R 'span[ptile=4]'"]),
        ("sge", {"cores": 4}, ["-pe smp 4"]),
        ("sge", {"cores": 4, "pe": "mpi"}, ["-pe mpi 4"]),
    ],
)
def test_cores_are_those_of_one_program_on_each_node(qtype: str, options: dict[str, Any], expected: list[str]) -> None:
    lines = [line.split(" ", 1)[1] for line in fyrd.options_to_string(options, qtype).splitlines()]
    assert [line for line in expected if line not in lines] == []


def test_grid_engine_needs_no_environment_for_one_core_and_has_no_nodes() -> None:
    assert "-pe" not in fyrd.options_to_string({"cores": 1}, "sge")
    with pytest.raises(fyrd.OptionsError, match="parallel environments instead of nodes"):
        fyrd.options_to_string({"nodes": 2}, "sge")


# --- dependents ---------------------------------------------------------------------------------------------------------------


def test_dependents_in_the_queue_of_this_machine_tell_why_they_never_started(wd: Path) -> None:
    with fyrd.JobQueue(cores=1) as queue:
        options = {"qtype": "local", "queue": queue}
        first = fyrd.submit("until [ -e go ]; do sleep 0.05; done; exit 1", name="first", **options)
        by_handle = fyrd.submit("touch ran", depends=first, **options)
        by_id = fyrd.submit("touch ran", depends=[first.id], **options)
        chained = fyrd.submit("touch ran", depends=by_handle, **options)
        (wd / "go").touch()
        assert not fyrd.wait([first, by_handle, by_id, chained])
        assert [job.state for job in (by_handle, by_id, chained)] == ["failed"] * 3
        assert {job.reason for job in (by_handle, by_id, chained)} == {"dependency failed"}
        for each in (first, first.id):
            with pytest.raises(fyrd.ClusterError, match="depends on first, which is failed"):
                fyrd.submit("touch ran", depends=each, **options)
    assert not (wd / "ran").exists()


def test_a_job_cannot_wait_for_one_of_another_queue(wd: Path) -> None:
    with fyrd.JobQueue(cores=1) as queue:
        here = fyrd.submit("sleep 1000", qtype="local", queue=queue)
        with pytest.raises(fyrd.ClusterError, match="which is in another queue; wait"):
            fyrd.submit("touch ran", depends=here, machine=SHELL)
        there = fyrd.submit("sleep 1000", machine=SHELL)
        with pytest.raises(fyrd.ClusterError, match="which is in another queue"):
            fyrd.submit("touch ran", depends=there, qtype="local", queue=queue)
        with pytest.raises(fyrd.ClusterError, match="depends on job 99, which is unknown"):
            fyrd.submit("touch ran", depends=99, qtype="local", queue=queue)
        there.kill(confirm=False)


FAKE = r"""#!/bin/sh
cd "$FAKE"
case ${0##*/} in
  qsub | bsub | jsub) echo x >>ids; number=$(wc -l <ids); printf "$(cat answer)\n" "$number" ;;
  qstat | bjobs | jjobs) cat listing ;;
  qdel | bkill | jctrl) echo "$@" >>killed ;;
esac
"""
LISTINGS = {
    "lsf": ("Job <%s> is submitted to queue <q>.", "1|EXIT|3||n1\n2|PEND|||\n"),
    "jh": ("Job <%s> is submitted to queue <q>.", "JOBID USER STAT\n1 me EXIT\n2 me PEND\n"),
    "pbs": ("%s.h", "Job Id: 1.h\n    job_state = F\n    Exit_status = 3\nJob Id: 2.h\n    job_state = H\n"),
    "torque": ("%s.h", "Job Id: 1.h\n    job_state = C\n    exit_status = 3\nJob Id: 2.h\n    job_state = H\n"),
}


@pytest.mark.parametrize("qtype", LISTINGS)
@pytest.mark.parametrize("by_id", [False, True], ids=["by handle", "by id"])
def test_a_dependent_that_can_never_start_is_taken_out_of_the_queue(
    qtype: str, by_id: bool, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most batch systems leave it there for ever, and whoever waits for it too."""
    for name in ("qsub", "bsub", "jsub", "qstat", "bjobs", "jjobs", "bhist", "qdel", "bkill", "jctrl"):
        (wd / name).write_text(FAKE)
        (wd / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{wd}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE", str(wd))
    answer, listing = LISTINGS[qtype]
    (wd / "answer").write_text(answer)
    (wd / "listing").write_text("")
    first = fyrd.submit("exit 3", qtype=qtype)
    second = fyrd.submit("touch ran", qtype=qtype, depends=first.id if by_id else first)
    (wd / "listing").write_text(listing)
    assert not second.wait()
    assert (second.state, second.reason) == ("failed", f"dependency failed: job {first.id}")
    assert (wd / "killed").read_text().split()[-1] == second.id
    with pytest.raises(fyrd.ClusterError, match="dependency failed"):
        second.get()
