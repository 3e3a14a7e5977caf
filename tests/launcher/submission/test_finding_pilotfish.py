"""Which Pilotfish a pilot runs with on its machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import sh, word
from pilotfish.launcher.description.pilot import Pilot
from pilotfish.launcher.submission import bootstrap
from pilotfish.pilot import own_python


@pytest.fixture(autouse=True)
def plain_machine(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder without start files, and no Pilotfish on the PATH."""
    monkeypatch.setenv("HOME", str(wd))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def found(wd: Path, *, local: bool, **pilot: Any) -> list[str]:
    find = bootstrap.finder(Pilot(**pilot), f"{wd}/root", local=local)
    done = LocalContext(wd, str(wd), {}).run_in_login_shell(sh("{find}\nprintf '%s\\n' \"${pilotfish[@]}\"", find=find))
    return done.out.split("\n")[:-1]


def test_on_this_machine_the_one_that_places_the_pilot_is_good_enough(wd: Path) -> None:
    assert found(wd, local=True) == own_python.pilotfish(sys.executable)
    assert found(wd, local=True, bootstrap="always") == [""]


def test_on_another_machine_it_is_nothing(wd: Path) -> None:
    assert found(wd, local=False) == [""]


@pytest.mark.parametrize("python", ["{home}/my python", "~/my python", "$HOME/my python"])
def test_a_python_may_be_named_from_the_home_folder_there(wd: Path, python: str) -> None:
    (wd / "my python").write_text("#!/bin/sh\n")
    (wd / "my python").chmod(0o755)
    assert found(wd, local=True, python=python.format(home=wd)) == own_python.pilotfish(f"{wd}/my python")


def test_ours_below_the_root_comes_before_that_of_the_path(wd: Path) -> None:
    ours = Path(bootstrap.folder(f"{wd}/root"), "bin/pilotfish")
    ours.parent.mkdir(parents=True)
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    assert found(wd, local=True) == [str(ours)]


def test_files_where_the_job_runs_are_not_taken_for_modules(wd: Path) -> None:
    """Neither looking for it nor starting it runs a `resource.py` that the user, or anybody else, has put there."""
    for name in ("resource", "logging", "pilotfish"):
        (wd / f"{name}.py").write_text("open('was_run', 'w')\n")
    find = bootstrap.finder(Pilot(), f"{wd}/root", local=True)
    start = sh('cd {folder}\n{find}\n"${pilotfish[@]}" --version', folder=word(str(wd)), find=find)
    done = LocalContext(wd, str(wd), {}).run_in_login_shell(start)
    assert done.out.startswith("pilotfish ")
    assert not (wd / "was_run").exists()
