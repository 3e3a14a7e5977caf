"""Whatever login shell a user has on the machine, and whatever its start files print, answers are ours alone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import Sshd

from pilotfish.launcher.cli import doctor
from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import StartFilesError
from pilotfish.launcher.contexts.shell import Answer, Marks, Reader, sh, users, words
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement

both = pytest.mark.usefixtures("transport")
Login = Callable[..., SSHContext]
ODD = "it's \\ \\\\ a \"b\" $c `d` ! !! ; & ~ * \t ü\nnext\\'\n"


@pytest.fixture
def login(sshd: Sshd, wd: Path) -> Iterator[Login]:
    """`login(shell, remote_root, **start_files)`: a context for a new user with that login shell and these files at home.

    A name as `bashrc` is `~/.bashrc`.
    """
    wd.chmod(0o755)
    names: list[str] = []

    def made(shell: str = "bash", remote_root: str = "work", **start_files: str) -> SSHContext:
        path = shutil.which(shell)
        if path is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {shell}")
        name, home = f"pf{secrets.token_hex(4)}", wd / "my home"
        home.mkdir()
        names.append(name)
        subprocess.run(["useradd", "-M", "-p", "*", "-d", home, "-s", path, name], check=True)
        for file, text in start_files.items():
            target = home / ".config/fish/config.fish" if file == "fish" else home / f".{file}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        subprocess.run(["chown", "-R", name, home], check=True)
        return SSHContext(wd / "here", remote_root, {**sshd.profile, "username": name})

    yield made
    sshd.cut()
    for name in names:
        subprocess.run(["userdel", "-f", name], check=True, capture_output=True)


def everything_works(there: SSHContext, wd: Path, size: int = 10) -> None:
    """Commands, single files, transfers both ways."""
    here, back = wd / "here", wd / "back"
    (here / "a").mkdir(parents=True)
    (here / "a/words").write_bytes(os.urandom(size))
    root = there.absolute(there.root_for("hash", "w"))
    assert root == str(wd / "my home/work/hash")
    done = there.run(users("cat; echo err >&2; exit 3"), stdin=ODD.encode())
    assert (done.code, done.out, done.err) == (3, ODD, "err\n")
    assert there.run(users(f"cat <<'END'\n{ODD}END\n")).out == ODD
    assert there.run(users("printf %s 'no line break'")).out == "no line break"
    many = [f"{number:0100}" for number in range(2000)]  # longer than a command line may be
    done = there.run(sh("printf '%s\\n' {words}; cat", words=words(many)), stdin=ODD.encode())
    assert done.out == "".join(f"{each}\n" for each in many) + ODD
    there.put(root, staging.forward(["a"], here, ""))
    there.write({f"{root}/it's": b"\0\1\xff"})
    assert there.read([f"{root}/it's", f"{root}/none"]) == {f"{root}/it's": b"\0\1\xff"}
    assert [file.path for file in there.list_files(root, ["**"])] == ["a/words", "it's"]
    there.get(root, ["a/words"], back)
    assert (back / "a/words").read_bytes() == (here / "a/words").read_bytes()
    there.remove(root)
    assert there.run(users("true"), cwd=root).code == 73


GREETING = "Welcome to 12 nodes\\n@ begins @\\n\\n5\\n"


@both
@pytest.mark.parametrize(
    ("shell", "start_files"),
    [
        ("bash", {"bashrc": f"printf '{GREETING}'; printf '{GREETING}' >&2; set -x"}),
        ("sh", {}),
        ("tcsh", {"tcshrc": "echo Welcome; echo 'to 12 nodes'"}),
        ("fish", {"fish": "echo Welcome; echo to 12 nodes >&2\n"}),
    ],
)
def test_any_login_shell_with_start_files_that_print(
    login: Login, wd: Path, shell: str, start_files: dict[str, str]
) -> None:
    with login(shell, **start_files) as there:
        everything_works(there, wd)


@both
@pytest.mark.skipif(not rsync.is_here(), reason="needs rsync")
def test_a_greeting_does_not_get_into_an_rsync(login: Login, wd: Path) -> None:
    with login(bashrc=f"printf '{GREETING}'") as there:
        everything_works(there, wd, rsync.FROM_BYTES + 1)
        assert there._has_rsync


@both
def test_a_start_file_that_runs_another_shell_is_told(login: Login) -> None:
    with login(bashrc="echo Hello; exec cat") as there, pytest.raises(StartFilesError, match="it says 'Hello'"):
        there.run(users("true"))


def test_doctor_tells_of_what_start_files_print_and_of_a_profile_that_replaces_the_shell(
    login: Login, wd: Path
) -> None:
    given = {"context_type": "SSH", "local_root": ".", "remote_root": "~/work", "remote_profile": {"hostname": "x"}}
    with login(bashrc=f"printf '{GREETING}'", bash_profile="exec cat") as there:
        machine = parse_machine({**given, "batch_type": "Slurm"})
        found = {each.what: each for each in doctor.examine(machine, there)}
        assert "Welcome to 12 nodes" in found["start files"].found
        assert found["clock"].ok
        assert found["write access"].ok
        assert "replaces or ends the shell" in found["login profile"].found
        with pytest.raises(StartFilesError, match="replaces or ends the shell"):
            there.run_in_login_shell(sh("true"))


@pytest.mark.parametrize("remote_root", ["~/my work", "my work", "$WORK", "$WORK/", "${HOME}/my work"])
def test_a_submission_below_a_folder_that_only_the_machine_knows(
    login: Login, wd: Path, remote_root: str, sshd: Sshd
) -> None:
    """Script, claims, results: all are in the one place."""
    there = login("bash", remote_root, bashrc="export WORK=$HOME/'my work'; echo Welcome")
    (wd / "here/w/a").mkdir(parents=True)
    (wd / "here/w/a/in").write_text("1 2 3\n")
    task = {
        "command": "wc -w <in >count; pwd >at",
        "task_work_path": "a",
        "forward_files": ["in"],
        "backward_files": ["count", "at"],
    }
    machine = {
        "batch_type": "Shell",
        "context_type": "SSH",
        "local_root": str(wd / "here"),
        "remote_root": remote_root,
        "remote_profile": there.profile,
    }
    made = Placement(
        parse_submission({"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": [task]})
    )
    assert made.scripts(), "can be looked at without the machine"
    assert made.run(clean=False, check_interval_s=0.5).over
    assert (wd / "here/w/a/count").read_text() == "3\n"
    assert (wd / "here/w/a/at").read_text() == f"{wd}/my home/my work/{made.hash}/a\n"


def test_a_variable_that_is_not_set_is_told_with_what_to_do(login: Login) -> None:
    with (
        login(remote_root="$NOWHERE/work") as there,
        pytest.raises(DescriptionError, match="NOWHERE: is not set there"),
    ):
        there.absolute(there.root_for("hash", "w"))


# --- marks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_what_stands_between_the_marks_is_found_however_it_is_cut(size: int) -> None:
    marks, taken = Marks(), bytearray()
    stream = b"noise\n" + marks.begin + b"one\n\ntwo" + marks.end + b"17\nlate"
    answer = Answer(marks, taken.extend)
    for start in range(0, len(stream), size):
        answer.feed(stream[start : start + size])
    answer.finish()
    assert (bytes(taken), answer.code, answer.noise) == (b"one\n\ntwo", 17, b"noise\n")
    blocks = [stream[start : start + size] for start in range(0, len(stream), size)]
    reader = Reader(marks, lambda: blocks.pop(0) if blocks else b"")
    assert reader.read(4) + reader.read(3) + reader.read() == b"one\n\ntwo"


def test_an_answer_that_was_cut_off_has_no_exit_code() -> None:
    marks, taken = Marks(), bytearray()
    answer = Answer(marks, taken.extend)
    answer.feed(marks.begin + b"half" + marks.end[:-3])
    answer.finish()
    assert (bytes(taken), answer.code) == (b"half" + marks.end[:-3], None)
