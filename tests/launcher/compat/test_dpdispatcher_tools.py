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

from pilotfish import Machine, Resources, Submission, Task
from pilotfish.launcher.compat.dpdispatcher import SSHSession, arginfo, dlog, run
from pilotfish.launcher.compat.dpdispatcher.entrypoints.run import run as run_script
from pilotfish.launcher.compat.dpdispatcher.entrypoints.submission import handle_submission
from pilotfish.launcher.compat.dpdispatcher.entrypoints.submit import load_submission_from_json, submit
from pilotfish.launcher.compat.dpdispatcher.utils.dpcloudserver import (
    RETCODE,
    Client,
    RequestInfoException,
    unzip_file,
    zip_file_list,
)
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
from pilotfish.launcher.contexts.bohrium import BohriumContext
from pilotfish.launcher.contexts.http import Http, ServiceRefusedError
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


def test_requests_to_the_cloud_server(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each method asks for, and what it makes of the answer."""
    asked: list[tuple[str, str, Any]] = []
    answers: dict[str, dict[str, Any]] = {
        "/brm/v2/job/add": {"jobId": 7, "jobGroupId": 3},
        "/brm/v1/job/7": {"status": 2, "resultUrl": "https://there/7"},
        "/brm/v1/job/7/log": {"logFiles": [{"url": "https://there/log", "size": 5}]},
        "/brm/v1/job/list": {"items": [{"id": 7}]},
        "/brm/v1/job/kill/7": {},
    }

    def call(way: BohriumContext, method: str, path: str, **more: Any) -> dict[str, Any]:
        asked.append((method, path, more.get("json", more.get("params"))))
        if path not in answers:
            raise ServiceRefusedError("no such job", status=404)
        return answers[path]

    monkeypatch.setattr(BohriumContext, "call", call)
    monkeypatch.setattr(Http, "tail", lambda http, url, offset: b"hello"[offset:])
    client = Client("me@here", "env:PASSWORD")
    given = {"command": "run", "machine_type": "c2", "log_file": "log", "backward_files": ["out"]}
    assert client.job_create("container", "https://in.zip", given, program_id=5) == (7, 3)
    assert asked[-1][2]["scassType"] == "c2"
    assert (asked[-1][2]["projectId"], asked[-1][2]["logFiles"], asked[-1][2]["outFiles"]) == (5, ["log"], ["out"])
    assert client.get_job_result_url("7:job_group_id:3") == "https://there/7"
    assert (client.get_log(7), client.get_log(7)) == ("hello", "")
    assert client.get_tasks_list(3) == [{"id": 7}]
    client.kill(7)
    assert asked[-1][:2] == ("POST", "/brm/v1/job/kill/7")
    with pytest.raises(RequestInfoException, match="no such job"):
        client.get_job_detail(8)


def test_a_submission_is_worked_on_by_its_hash(wd: Path) -> None:
    (wd / "w/a").mkdir(parents=True)
    machine = Machine(batch_type="Shell", context_type="Local", local_root=str(wd), remote_root=str(wd / "there"))
    task = Task("echo hi > out; exit 3", "a", backward_files=["out"])
    made = Submission("w", machine, Resources(group_size=1), task_list=[task])
    machine.retry_count = 0
    with pytest.raises(RuntimeError):
        made.run_submission(check_interval=1)
    with pytest.raises(ValueError, match="At least one action"):
        handle_submission(submission_hash=made.submission_hash)
    (wd / "w/a/log").unlink()
    handle_submission(submission_hash=made.submission_hash, download_terminated_log=True)
    assert (wd / "w/a/log").exists()
    handle_submission(submission_hash=made.submission_hash, clean=True)
    assert list((wd / "there").iterdir()) == []
    assert record.get_submissions() == []


def test_a_program_that_cannot_be_edited_may_write_too_much(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """dflow writes the keys of SSH for every machine; `pilotfish with dpdispatcher` sets the variable."""
    given = {"batch_type": "Shell", "context_type": "Local", "local_root": ".", "remote_root": "/there"}
    too_much = given | {"remote_profile": {"hostname": None, "symlink": False}}
    with pytest.raises(ValueError, match="unknown key 'hostname'"):
        Machine.load_from_dict(too_much)
    monkeypatch.setenv("PILOTFISH_UNKNOWN_KEYS", "warn")
    assert Machine.load_from_dict(too_much).remote_profile == {"symlink": False}
    assert "machine.remote_profile: unknown key 'hostname' is left out" in caplog.text


def test_a_submission_of_a_table(wd: Path) -> None:
    for name in ("d1", "d2"):
        (wd / name).mkdir()
    found = run.read_pep723(SCRIPT.replace('task_work_path = "."', 'task_work_path = "d*"'))
    assert found is not None
    made = run.create_submission(found["tool"]["dpdispatcher"], "0" * 40)
    assert [task.task_work_path for task in made.belonging_tasks] == ["d1", "d2"]
    assert made.belonging_tasks[0].command == f'python3 "$REMOTE_ROOT"/script_{"0" * 40}.py'
    assert made.forward_common_files == [f"script_{'0' * 40}.py"]
    with pytest.raises(Exception, match=r"mashine|key `machine`"):  # ours, or that of dargs
        arginfo.submission_args().check_value({"work_base": "w", "mashine": {}})
