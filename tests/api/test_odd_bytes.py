"""Bytes that are not UTF-8 pass everywhere, as through a shell: file names of old data sets have them."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager
from pilotfish.api import jobfile
from pilotfish.api.errors import RequestRefusedError
from pilotfish.pilot.model.errors import UsageError

QUIET = {"log_file": os.devnull}
ODD = b"caf\xe9"
"""Latin-1."""


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalManager]:
    with LocalManager(["--wd", tmp_path_factory.mktemp("odd"), "--nodes", "1"], QUIET) as pilot:
        yield pilot


def folder(pilot: LocalManager) -> Path:
    return pilot.connection_file.parent.parent


def names() -> st.SearchStrategy[bytes]:
    """What a file may be called."""
    return st.binary(min_size=1, max_size=40).map(lambda data: data.translate(None, b"\0/$")).filter(
        lambda name: name not in (b"", b".", b"..")
    )  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    [ODD, b"\xf4\x8f\xbe\x80", b"\xf4\x8f\xbf\xbf\xff", b"\xed\xb3\xa9", "\U0001f40b \u00e9".encode()], b"\xff\xfe"
)
@given(st.lists(st.binary(max_size=200).map(lambda data: data.translate(None, b"\0$")), max_size=20), names())
def test_any_bytes_reach_the_task_unchanged(pilot: LocalManager, args: list[bytes], name: bytes) -> None:
    """As arguments, in a variable, and as the name of a file; only `$`, which begins variables, is left out."""
    value = b"".join(args)
    script = 'for word in "$$$$@"; do printf "%s\\0" "$$$$word"; done; printf %s "$$$$ODD"'
    jobs = Jobs().add(exec="bash", args=["-c", script, "bash", *args], env={"ODD": value}, stdout=name)
    (job,) = pilot.submit(jobs)
    assert pilot.wait4(job, PATIENCE_S) == {job: "SUCCEED"}
    path = os.path.join(os.fsencode(folder(pilot)), name)
    with open(path, "rb") as file:
        assert file.read() == b"".join(arg + b"\0" for arg in args) + value
    os.unlink(path)


def test_all_that_names_files_may_have_them(pilot: LocalManager) -> None:
    place = os.path.join(os.fsencode(folder(pilot)), ODD + b"-wd")
    os.mkdir(place)
    with open(os.path.join(place, ODD), "wb") as file:
        file.write(b"text of " + ODD)
    jobs = Jobs()
    jobs.add(name="streams", exec="cat", wd=place, stdin=ODD, stdout=ODD + b".out", stderr=ODD + b".err")
    jobs.add(name="script", script=b"printf %s " + ODD + b" > s.out; pwd > pwd.out", wd=place)
    jobs.add(name="values", exec="touch", args=["${itval}"], wd=place, iteration=[b"1" + ODD, "2\u00e9"])
    pilot.submit(jobs)
    assert set(pilot.wait4(["streams", "script", "values"], PATIENCE_S).values()) == {"SUCCEED"}
    written = {os.fsencode(path.name): path.read_bytes() for path in Path(os.fsdecode(place)).iterdir()}
    assert written == {
        ODD: b"text of " + ODD,
        ODD + b".out": b"text of " + ODD,
        ODD + b".err": b"",
        b"s.out": ODD,
        b"pwd.out": place + b"\n",
        b"1" + ODD: b"",
        "2\u00e9".encode(): b"",
    }
    assert os.fsencode(str(pilot.info_parsed("streams")["streams"].wdir)) == place
    report = [json.loads(line) for line in (pilot.connection_file.parent / "jobs.report").read_bytes().splitlines()]
    (entry,) = [entry for entry in report if entry["name"] == "streams"]
    assert os.fsencode(entry["execution"]["stdin"]) == ODD
    assert os.fsencode(entry["runtime"]["wd"]) == place


def test_what_goes_wrong_with_such_a_file_is_told(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="missing", exec="cat", stdin=ODD))
    assert pilot.wait4("missing", PATIENCE_S) == {"missing": "FAILED"}
    message = pilot.info_parsed("missing")["missing"].messages
    assert message == f"cannot read stdin '{os.fsdecode(ODD)}' in {folder(pilot)}: No such file or directory"


def test_a_name_of_a_job_is_text(pilot: LocalManager) -> None:
    """It stands in topics, in reports and on the screen."""
    with pytest.raises(RequestRefusedError, match="contains invalid characters"):
        pilot.submit(Jobs().add(name=ODD, exec="true"))


# --- the command --------------------------------------------------------------------------------------------------------


def run(wd: bytes | Path, *words: bytes | str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """`pilotfish run` in `wd`: its exit code, and what it says on stderr, which is to be no traceback."""
    command: Sequence[bytes | str] = [sys.executable, "-m", "pilotfish", "run", "-q", "--nodes", "1", *words]
    done = subprocess.run(
        command, cwd=wd, capture_output=True, check=False, timeout=PATIENCE_S, env={**os.environ, **(environ or {})}
    )
    said = done.stderr.decode(errors="backslashreplace")
    assert "Traceback" not in said, said
    return done.returncode, said


@pytest.mark.parametrize("environ", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_a_working_folder_a_command_and_a_list_may_have_them(wd: Path, environ: dict[str, str]) -> None:
    """The failure is told, on whatever kind of terminal; `--continue` finds what has been done."""
    place = os.path.join(os.fsencode(wd), b"dossi\xe9r")
    os.mkdir(place)
    with open(os.path.join(place, ODD), "wb") as file:
        file.write(b"data")
    with open(os.path.join(place, b"l\xe9.txt"), "wb") as file:
        file.write(b"cat " + ODD + b"\r\nls absent-" + ODD + b"\n")
    code, said = run(place, b"l\xe9.txt", environ=environ)
    assert code == 1
    assert "1 succeeded, 1 failed" in said
    with open(os.path.join(place, b"pilotfish-output/line-1.out"), "rb") as file:
        assert file.read() == b"data"
    code, said = run(place, b"l\xe9.txt", "--continue", environ=environ)
    assert (code, "2 tasks: 1 succeeded, 1 failed" in said) == (1, True), said


# --- files of work ------------------------------------------------------------------------------------------------------


def test_a_mark_of_utf_8_is_passed_over(wd: Path) -> None:
    (wd / "tasks.txt").write_bytes(codecs.BOM_UTF8 + b"echo one\n")
    assert [job["execution"]["script"] for job in jobfile.load(str(wd / "tasks.txt")).jobs] == ["echo one"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_text_of_another_width_is_an_error_that_names_the_remedy(wd: Path, encoding: str) -> None:
    (wd / "tasks.txt").write_bytes("\ufeffecho one\n".encode(encoding))
    with pytest.raises(UsageError, match=r"is UTF-16 or UTF-32 text; save it as UTF-8: iconv -t UTF-8"):
        jobfile.load(str(wd / "tasks.txt"))


@pytest.mark.parametrize("name", ["jobs.json", "jobs.yaml", "jobs.toml"])
def test_a_description_that_is_not_utf_8_is_refused_with_the_place(wd: Path, name: str) -> None:
    (wd / name).write_bytes(b'[\n{"name": "caf\xe9"}]')
    with pytest.raises(UsageError, match="is not UTF-8 text: byte 0xe9 in line 2"):
        jobfile.load(str(wd / name))


def test_a_description_says_such_a_byte_with_an_escape(wd: Path) -> None:
    (wd / "jobs.json").write_text('[{"name": "a", "execution": {"exec": "caf\\udce9"}}]')
    (job,) = jobfile.load(str(wd / "jobs.json")).jobs
    assert os.fsencode(job["execution"]["exec"]) == ODD
