"""What a program has at hand, paths and numbers, is taken where text is wanted; what cannot be text is named at once."""

from __future__ import annotations

import os
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager, Manager
from pilotfish.api.errors import InvalidJobDescriptionError, PilotfishError, ServiceError, WrongArgumentsError

QUIET = {"log_file": os.devnull}


class Word(str, Enum):
    FIRST = "first"


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_arguments_of_the_service_may_be_paths_and_numbers(wd: Path) -> None:
    with LocalManager(["--wd", wd, "--nodes", 2, "--kill-grace", 0.5], QUIET) as pilot:
        assert pilot.resources()["total_cores"] == 2
        assert pilot.connection_file.is_relative_to(wd)
        other = Manager(pilot.connection_file, QUIET)
        assert other.resources()["total_cores"] == 2
        other.close()


@pytest.mark.parametrize("wrong", [True, None, ["--nodes"], {"--nodes": 2}, object(), "a\0b"])
def test_an_argument_that_is_no_word_is_named(wd: Path, wrong: object) -> None:
    before = _descriptors()
    with pytest.raises(WrongArgumentsError, match=r"^server_args\[2\]: "):
        LocalManager(["--wd", wd, wrong], QUIET)
    assert _descriptors() == before


@pytest.mark.parametrize("wrong", ["--nodes 2", b"--nodes"])
def test_one_text_is_no_list_of_arguments(wrong: Any) -> None:
    with pytest.raises(WrongArgumentsError, match="server_args is one text; give a list of words"):
        LocalManager(wrong, QUIET)


@pytest.mark.parametrize(
    ("environ", "cfg"),
    [({}, {"init_timeout": "soon"}), ({}, {"request_timeout": "soon"}), ({"PYTHONHOME": "/no/such"}, QUIET)],
)
def test_no_descriptor_stays_open_when_a_start_fails(
    wd: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], cfg: dict[str, Any]
) -> None:
    """Whether a value is wrong, or the process does not come up."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    before = _descriptors()
    errors = []
    for _ in range(2):
        with pytest.raises((ServiceError, ValueError)) as caught:
            LocalManager(["--wd", wd], cfg)
        errors.append(caught)  # a traceback that is kept must not keep them open either
    assert _descriptors() == before


def test_no_descriptor_stays_open_when_the_process_cannot_be_started(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    before = _descriptors()
    with pytest.raises(OSError, match="No such file") as caught:
        LocalManager(["--wd", wd], QUIET)
    assert _descriptors() == before, caught


def test_numbers_and_paths_in_a_job_become_text() -> None:
    jobs = Jobs().add(
        exec=Path("/bin/echo"),
        args=[1, 2.5, Path("a/b"), "text", Decimal("1.50"), Fraction(1, 3), Word.FIRST, float("nan"), 10**30],
        env={"N": 4, "X": 0.5, "P": Path("/p"), "T": "t"},
        wd=Path("w"),
        stdin=PurePosixPath("i"),
        stdout=Path("o"),
        stderr=Path("e"),
        venv=Path("v"),
        iteration=[Path("one"), 2],
    )
    (job,) = jobs.ordered_jobs()
    assert job["execution"] == {
        "exec": "/bin/echo",
        "args": ["1", "2.5", "a/b", "text", "1.50", "1/3", "first", "nan", str(10**30)],
        "env": {"N": "4", "X": "0.5", "P": "/p", "T": "t"},
        "wd": "w",
        "stdin": "i",
        "stdout": "o",
        "stderr": "e",
        "venv": "v",
    }
    assert job["iteration"] == {"values": ["one", "2"]}


def test_the_same_in_the_form_of_the_request_which_is_copied() -> None:
    execution = {"exec": Path("/bin/echo"), "args": (1, Path("a")), "env": {"N": 4}}
    (job,) = Jobs().add_std(name="a", execution=execution, attributes={"from": Path("here")}).ordered_jobs()
    execution["args"] = ()
    assert job["execution"] == {"exec": "/bin/echo", "args": ["1", "a"], "env": {"N": "4"}}
    assert job["attributes"] == {"from": "here"}


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"args": ["a", object()]}, r"execution\.args\[1\]"),
        ({"args": [memoryview(b"bytes")]}, r"execution\.args\[0\]"),
        ({"args": [{1, 2}]}, r"execution\.args\[0\]"),
        ({"env": {"F": print}}, r"execution\.env\.F"),
        ({"env": {1: "x"}}, r"execution\.env"),
        ({"attributes": {"deep": [{"down": object()}]}}, r"attributes\.deep\[0\]\.down"),
    ],
)
def test_what_cannot_be_text_is_named(members: dict[str, Any], place: str) -> None:
    jobs = Jobs()
    with pytest.raises(InvalidJobDescriptionError, match=f"^{place}: "):
        jobs.add(exec="true", **members)
    assert len(jobs) == 0


def test_tasks_see_these_texts_and_nothing_of_what_is_empty(wd: Path) -> None:
    """As templates of other programs send it: all members always, most of them empty."""
    empty: dict[str, Any] = dict.fromkeys(("venv", "modules", "stdin", "stderr", "model"), "")
    with LocalManager(["--wd", wd, "--nodes", 1], QUIET) as pilot:
        words = ["-c", 'echo "$1 $2 $3 $$N"', "-", 1, 2.5, Path("a/b")]
        pilot.submit(Jobs().add(name="a", exec="bash", args=words, env={"N": 7}, stdout=Path("out"), wd="", **empty))
        pilot.submit(Jobs().add(name="b", exec="true", stdout="${itval}", iteration=["", "named"]))
        assert pilot.wait4(["a", "b"], PATIENCE_S) == {"a": "SUCCEED", "b": "SUCCEED"}
    assert (wd / "out").read_text() == "1 2.5 a/b 7\n"
    assert (wd / "named").exists()


@pytest.mark.parametrize("value", [True, None])
def test_a_variable_that_is_neither_text_nor_number_is_refused_by_name(wd: Path, value: object) -> None:
    with LocalManager(["--wd", wd, "--nodes", 1], QUIET) as pilot:
        with pytest.raises(PilotfishError, match=r"jobs\[0\]\.execution\.env\.V: (true|null) is not text"):
            pilot.submit(Jobs().add(name="a", exec="true", env={"V": value}))
        assert pilot.list() == {}
