"""DPDispatcher's tools: utils, entrypoints, a session, its logger."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sshd import Sshd

from pilotfish import Machine, Resources, Task
from pilotfish.launcher.compat.dpdispatcher import SSHSession, arginfo, dlog, run
from pilotfish.launcher.compat.dpdispatcher.entrypoints.run import run as run_script
from pilotfish.launcher.compat.dpdispatcher.entrypoints.submit import load_submission_from_json, submit
from pilotfish.launcher.compat.dpdispatcher.utils.dpcloudserver import RETCODE, unzip_file, zip_file_list
from pilotfish.launcher.compat.dpdispatcher.utils.hdfs_cli import HDFS, HDFSMissingPathError
from pilotfish.launcher.compat.dpdispatcher.utils.record import record
from pilotfish.launcher.compat.dpdispatcher.utils.utils import (
    RetrySignal,
    customized_script_header_template,
    generate_totp,
    get_sha256,
    hotp,
    retry,
    rsync,
    run_cmd_with_all_output,
)
from pilotfish.launcher.contexts.paths import ForeignPathError


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)


def program(wd: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (wd / "bin").mkdir(exist_ok=True)
    (wd / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (wd / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{wd}/bin:{os.environ['PATH']}")


def test_passwords_and_digests(wd: Path) -> None:
    """The examples of RFC 4226, appendix D."""
    assert [hotp("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", count) for count in (0, 1, 9)] == ["755224", "287082", "520489"]
    assert generate_totp("gezdgnbvgy3tqojq", token_length=8).isdigit()
    (wd / "f").write_text("x")
    assert get_sha256("f") == hashlib.sha256(b"x").hexdigest()
    (wd / "header").write_text("#X {number_node} {kwargs[a]}")
    assert customized_script_header_template("header", Resources(group_size=1, number_node=3, a="b")) == "#X 3 b"


def test_functions_are_tried_again() -> None:
    tries: list[int] = []

    @retry(max_retry=3, sleep=0)
    def late() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise RetrySignal("not yet")
        return "done"

    @retry(max_retry=2, sleep=0, catch_exception=OSError)
    def never() -> None:
        raise OSError("no")

    assert (late(), len(tries)) == ("done", 3)
    with pytest.raises(RuntimeError, match="Failed to run never for 2 times"):
        never()
    with pytest.raises(ValueError, match="max_retry must be greater than 0"):
        retry(max_retry=0)


def test_rsync_checks_hosts(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(wd, monkeypatch, "rsync", f'printf "%s\\n" "$@" > {wd}/said; [ "$7" != bad ] || {{ echo no >&2; exit 3; }}')
    rsync("a b", "host:c", port=7, key_filename="k", proxy_command="p q")
    words = (wd / "said").read_text().splitlines()
    assert words[-3:] == ["--", "a b", "host:c"]
    assert words[2] == "ssh -o ConnectTimeout=10 -o BatchMode=yes -p 7 -q -i k -o 'ProxyCommand=p q'"
    assert run_cmd_with_all_output("echo a; echo b >&2; exit 2") == (2, b"a\n", b"b\n")


def test_files_in_hdfs(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for `hadoop` that keeps its files in a folder."""
    program(
        wd,
        monkeypatch,
        "hadoop",
        f"""cd {wd}/hdfs; shift; case $1 in
-test) [ -e "$3" ] ;;
-mkdir) mkdir -p "$3" ;;
-rm) rm -r "$3" ;;
-copyFromLocal) cp -r "$3" "$4" ;;
-copyToLocal) shift; cp -r "$@" ;;
-text) [ -e "$2" ] || {{ echo "text: \\`$2': No such file or directory" >&2; exit 1; }}; cat "$2" ;;
-mv) mv "$2" "$3" ;;
esac""",
    )
    (wd / "hdfs").mkdir()
    (wd / "f").write_text("content")
    assert HDFS.mkdir("a/b")
    assert HDFS.copy_from_local(f"{wd}/f", "a/b/f") == (True, b"")
    assert HDFS.move("a/b/f", "a/g")
    assert (HDFS.exists("a/g"), HDFS.exists("a/b/f"), HDFS.read_hdfs_file("a/g")) == (True, False, b"content")
    assert HDFS.copy_to_local(["a/g"], f"{wd}/back")
    assert (wd / "back").read_text() == "content"
    assert HDFS.remove("a")
    with pytest.raises(HDFSMissingPathError, match="Cannot read a/g"):
        HDFS.read_hdfs_file("a/g")
    with pytest.raises(ValueError, match="begins with a dash"):
        HDFS.exists("-f")


def test_archives_lead_nowhere_else(wd: Path) -> None:
    (wd / "in/sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b"):
        (wd / "in" / name).write_text(name)
    path = zip_file_list("in", "all.zip", ["*.txt", "sub"])
    assert unzip_file(path, "out") == {"a.txt", "sub/b"}
    assert (wd / "out/sub/b").read_text() == "sub/b"
    with pytest.raises(FileNotFoundError, match="cannot find archive input c"):
        zip_file_list("in", "all.zip", ["c"])
    with zipfile.ZipFile("bad.zip", "w") as archive:
        archive.writestr("good", "")
        archive.writestr("../evil", "")
    with pytest.raises(ForeignPathError, match="evil"):
        unzip_file("bad.zip", "out")
    assert not (wd / "evil").exists()
    assert not (wd / "out/good").exists()
    assert (RETCODE.OK, RETCODE.TOKENINVALID) == ("0000", "2100")


def test_a_file_is_submitted_from_python(wd: Path) -> None:
    (wd / "w/a").mkdir(parents=True)
    given = {
        "work_base": "w",
        "machine": {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."},
        "resources": {"group_size": 1},
        "task_list": [{"command": "echo hi > out", "task_work_path": "a", "backward_files": ["out"]}],
    }
    (wd / "s.json").write_text(json.dumps(given))
    loaded = load_submission_from_json("s.json")
    assert [task.command for task in loaded.belonging_tasks] == ["echo hi > out"]
    assert submit(filename="s.json", dry_run=True)["scripts"]
    assert record.get_submissions() == []
    submit(filename="s.json")
    assert (wd / "w/a/out").read_text() == "hi\n"
    with pytest.raises(FileNotFoundError, match="there is no submission"):
        record.get_submission("0" * 40)


SCRIPT = """\
# /// script
# [tool.dpdispatcher]
# work_base = "."
# [tool.dpdispatcher.machine]
# batch_type = "Shell"
# local_root = "."
# context_type = "LazyLocal"
# [tool.dpdispatcher.resources]
# group_size = 1
# [[tool.dpdispatcher.task_list]]
# command = "python3"
# task_work_path = "."
# ///
open("made", "w").write("by the script")
"""


def test_a_script_says_where_it_runs(wd: Path) -> None:
    (wd / "x.py").write_text(SCRIPT)
    found = run.read_pep723(SCRIPT)
    assert found is not None
    assert found["tool"]["dpdispatcher"]["resources"] == {"group_size": 1}
    assert run.read_pep723("print()") is None
    run_script(filename="x.py")
    assert (wd / "made").read_text() == "by the script"


def test_trees_and_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    assert arginfo.machine_dargs is Machine.arginfo
    assert (arginfo.resources_dargs, arginfo.task_dargs) == (Resources.arginfo, Task.arginfo)
    dlog.warning("said")
    assert [(each.name, each.message) for each in caplog.records] == [("dpdispatcher", "said")]


def test_a_session_runs_commands_and_brings_files(wd: Path, sshd: Sshd) -> None:
    profile: dict[str, Any] = dict(sshd.profile)
    session = SSHSession(str(profile.pop("hostname")), profile.pop("username", None), **profile)
    session.ensure_alive()
    _, out, err = session.exec_command("echo hi; echo no >&2; exit 3")
    assert (out.read(), err.readlines(), out.channel.recv_exit_status()) == (b"hi\n", ["no\n"], 3)
    (wd / "f").write_text("content")
    session.put("f", str(wd / "there/g"))
    session.get(str(wd / "there/g"), "back")
    assert (wd / "back").read_text() == "content"
    assert session.remote.endswith("127.0.0.1")
    session.close()
