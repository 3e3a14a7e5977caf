"""Machine, resources, task and submission files: what loads, and what the errors of the others say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.description import files as loading
from pilotfish.launcher.description.machine import machine_to_dict, parse_machine
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.schema import DescriptionError, InconsistentError, rows
from pilotfish.launcher.description.submission import load_submission, parse_submission
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.machines import registry
from pilotfish.launcher.submission.machine import Machine

SSH = {
    "batch_type": "Slurm",
    "context_type": "SSHContext",
    "local_root": "/home/ann/proj",
    "remote_root": "/scratch/ann",
    "remote_profile": {"hostname": "login.hpc", "username": "ann", "password": "pw", "totp_secret": "env:TOTP"},
}
TASK = {"command": "true", "task_work_path": "a"}


def refused(parse: Any, given: Any) -> str:
    with pytest.raises(DescriptionError) as caught:
        parse(given)
    return str(caught.value)


@pytest.mark.parametrize("batch_type", ["slurm", "Slurm", "SLURM"])
@pytest.mark.parametrize("context_type", ["SSHContext", "sshcontext", "SSH", "ssh"])
def test_names_of_machines_and_contexts_in_any_case(batch_type: str, context_type: str) -> None:
    machine = parse_machine(SSH | {"batch_type": batch_type, "context_type": context_type})
    assert (machine.batch_type, machine.context_type) == ("Slurm", "SSHContext")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_type": "slrum"}, "machine.batch_type: unknown 'slrum'; did you mean 'Slurm'?"),
        ({"context_type": "lazy_local"}, "machine.context_type: unknown 'lazy_local'; did you mean 'LazyLocal'?"),
        ({"retry_cuont": 2}, "machine: unknown key 'retry_cuont'; did you mean 'retry_count'?"),
        (
            {"remote_profile": {"hostname": "h", "port": "22"}},
            "machine.remote_profile.port: '22' is not a whole number",
        ),
        ({"remote_profile": {}}, "machine.remote_profile: key 'hostname' is required; it is: the host"),
        ({"remote_root": None}, "machine: key 'remote_root' is required"),
        ({"machine_type": "Slurm"}, "machine.machine_type: is the same as 'batch_type', which is given too"),
    ],
)
def test_a_wrong_machine_is_named_with_its_place_and_what_to_write(change: dict[str, Any], message: str) -> None:
    assert message in refused(parse_machine, SSH | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 99_999}, "machine.remote_profile.port: 99999 is more than 65535"),
        ({"timeout": 0}, "machine.remote_profile.timeout: 0 is less than 1"),
        ({"keepalive": float("nan")}, "machine.remote_profile.keepalive: nan is not a number"),
        ({"archive_chunk_size": -1}, "machine.remote_profile.archive_chunk_size: -1 is less than 0"),
    ],
)
def test_numbers_have_their_limits(change: dict[str, Any], message: str) -> None:
    assert message in refused(parse_machine, SSH | {"remote_profile": {"hostname": "h", **change}})


@pytest.mark.parametrize("password", [12345678, ["12345678"], "12345678\0"])
def test_a_secret_that_is_wrong_is_not_told(password: Any) -> None:
    profile = {"hostname": "h", "password": password}
    told = refused(parse_machine, SSH | {"remote_profile": profile})
    assert told == "machine.remote_profile.password: is not a text or null; write quotes around it"
    assert "12345678" not in refused(parse_machine, SSH | {"remote_profile": [profile]})


@pytest.mark.parametrize(
    "text", ['password: "12345678\n', "password: 12345678: x\n", "a: [12345678, }\n", "password: \x07"]
)
def test_a_line_that_cannot_be_read_is_not_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "machine.yaml").write_text(text)
    told = refused(Machine.load_from_yaml, tmp_path / "machine.yaml")
    assert "machine.yaml: " in told
    assert "12345678" not in told


def test_a_secret_in_the_file_and_an_old_name_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    machine = parse_machine({("machine_type" if name == "batch_type" else name): SSH[name] for name in SSH})
    assert machine.batch_type == "Slurm"
    assert caplog.messages == [
        "machine.machine_type: the name of this key is batch_type now",
        "machine.remote_profile.password: is in the file for all who can read it; write env:NAME, file:PATH or"
        " keyring:SERVICE/USER",
    ]
    assert "pw" not in repr(machine)


def test_secrets_are_not_written_but_references_to_them_are() -> None:
    machine = parse_machine(SSH)
    profile = machine_to_dict(machine)["remote_profile"]
    assert profile == {"hostname": "login.hpc", "username": "ann", "totp_secret": "env:TOTP"}
    assert machine_to_dict(machine, secrets=True)["remote_profile"]["password"] == "pw"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "resources: key 'group_size' is required"),
        ({"group_size": -1}, "resources.group_size: -1 is less than 0"),
        ({"group_size": 1, "walltime": "soon"}, 'resources.walltime: "soon" is not a wall time; write 1h30m'),
        ({"group_size": 1, "memory": "4X"}, "resources.memory: '4X' is not an amount of memory; write 4G"),
        ({"group_size": 1, "queue_name": "q\n#SBATCH"}, "resources.queue_name: 'q\\n#SBATCH' has a line break"),
        ({"group_size": 1, "strategy": {"ratio_unfinished": 1.0}}, "ratio_unfinished must be smaller than 1.0"),
        ({"group_size": 1, "strategy": {"if_cuda_multi_devices": True}}, "gpu_per_node can not be smaller than 1"),
        ({"group_size": 1, "module_list": ["a", 2]}, "resources.module_list[1]: 2 is not a text"),
        ({"group_size": 1, "custom_gpu_line": "#X"}, "unknown key 'custom_gpu_line'; write it below `kwargs`"),
        ({"group_size": 1, "batch_type": 5}, "resources.batch_type: 5 is not a text or null"),
        ({"group_size": 1, "wait_time": float("inf")}, "resources.wait_time: inf is not a number"),
        (
            {"group_size": 1, "batch_type": "SlurmJobArray", "kwargs": {"slurm_job_size": 0}},
            "resources.kwargs.slurm_job_size: 0 is less than 1",
        ),
        (
            {"group_size": 1, "batch_type": "LSF", "kwargs": {"gpu_usage": "yes"}},
            "resources.kwargs.gpu_usage: 'yes' is not true or false",
        ),
    ],
)
def test_wrong_resources(given: dict[str, Any], message: str) -> None:
    assert message in refused(Resources.load_from_dict, given)


def test_our_resources_are_seconds_and_mebibytes() -> None:
    resources = Resources.load_from_dict({"group_size": 1, "walltime": "1h30m", "memory": "4G"})
    assert (resources.walltime_s, resources.memory_mib) == (5400, 4096)
    assert Resources.load_from_dict({"group_size": 1, "walltime": 90, "memory": 500}).walltime_s == 90
    assert Resources.load_from_dict(resources.serialize()) == resources


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forward_files": ["/etc/passwd"]}, "task.forward_files[0]: absolute paths are not allowed"),
        ({"backward_files": ["a", "x\\..\\y"]}, "task.backward_files[1]: parent-directory traversal is not allowed"),
        ({"outlog": "*.log"}, "task.outlog: glob patterns are not allowed here"),
        ({"errlog": "C:\\x"}, "task.errlog: absolute paths are not allowed"),
        ({"command": "a\0b"}, "task.command: 'a\\x00b' is not a text"),
        ({"resources": {"core": 2}}, "task.resources: unknown key 'core'; did you mean 'cores'?"),
        ({"resources": {"named": {"nvme": -1}}}, "task.resources.named.nvme: -1 is too little"),
        ({"resources": {"named": {"mem": 1}}}, "task.resources.named.mem: this is not a named resource"),
        ({"resources": {"gpus": "1/13"}}, 'task.resources.gpus: "1/13" is too fine'),
    ],
)
def test_a_wrong_task(change: dict[str, Any], message: str) -> None:
    assert message in refused(Task.load_from_dict, TASK | change)


def test_a_submission_names_the_task_that_is_wrong() -> None:
    given = {"work_base": "w", "machine": SSH, "resources": {"group_size": 1}, "task_list": [TASK, {"command": "x"}]}
    assert refused(parse_submission, given).startswith("task_list[1]: key 'task_work_path' is required")


@pytest.mark.parametrize(
    ("context_type", "folder", "message"),
    [
        ("SSH", "../other", "task_list[0].task_work_path: parent-directory traversal is not allowed: ../other"),
        ("Local", "/tmp", "task_list[0].task_work_path: absolute paths are not allowed in staging entries: /tmp"),
        ("LazyLocal", "/tmp", "task_list[0].task_work_path: absolute paths are not allowed in staging entries: /tmp"),
    ],
)
def test_a_task_is_below_the_submissions_folder(context_type: str, folder: str, message: str) -> None:
    machine = SSH | {"context_type": context_type, "remote_profile": {"hostname": "h"} if context_type == "SSH" else {}}
    tasks = [TASK | {"task_work_path": folder}]
    given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": tasks}
    assert message in refused(parse_submission, given)


@pytest.mark.parametrize(
    ("batch_type", "context_type", "ways"),
    [
        ("Slurm", "HDFS", "LocalContext or LazyLocalContext or SSHContext"),
        ("DistributedShell", "Local", "HDFSContext"),
        ("lebesgue", "OpenAPI", "BohriumContext"),
        ("OpenAPI", "dpcloudservercontext", "OpenAPIContext"),
    ],
)
def test_a_batch_system_is_reached_its_own_way(batch_type: str, context_type: str, ways: str) -> None:
    """Which contexts go with a batch system is told before anything is sent."""
    machine: dict[str, Any] = {"batch_type": batch_type, "context_type": context_type}
    machine |= {"local_root": ".", "remote_root": "/r"}
    profiles = {"dpcloudservercontext": {"program_id": 1, "input_data": {}}}
    machine |= {"remote_profile": profiles.get(context_type, {})}
    given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": [TASK]}
    with pytest.raises(InconsistentError) as caught:
        parse_submission(given)
    assert caught.value.where == "machine.context_type"
    assert caught.value.remedy == f"write {ways}"


def test_no_pilot_where_no_command_can_be_run() -> None:
    machine = {"batch_type": "OpenAPI", "context_type": "OpenAPI", "local_root": "."}
    given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": [TASK], "pilot": {}}
    assert refused(parse_submission, given).startswith("pilot: no pilot can be put in place through OpenAPIContext")


def test_where_nothing_is_staged_a_task_may_be_beside_it() -> None:
    machine = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": ".", "remote_profile": {"_c": 1}}
    given = {
        "work_base": "w",
        "machine": machine,
        "resources": {"group_size": 1},
        "task_list": [TASK | {"task_work_path": "../x"}],
    }
    assert parse_submission(given).tasks[0].task_work_path == "../x"
    assert parse_submission(given).machine.profile == {}


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
def test_submissions_load_from_json_yaml_and_toml(tmp_path: Path, suffix: str) -> None:
    texts = {
        "json": '{"work_base": "w", "machine": {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."},'
        ' "resources": {"group_size": 2}, "task_list": [{"command": "true", "task_work_path": "a"}]}',
        "yaml": "work_base: w\nmachine: {batch_type: Shell, context_type: LazyLocal, local_root: .}\n"
        "resources: {group_size: 2}\ntask_list:\n- {command: 'true', task_work_path: a}\n",
        "toml": 'work_base = "w"\nresources.group_size = 2\n[machine]\nbatch_type = "Shell"\ncontext_type = "LazyLocal"\n'
        'local_root = "."\n[[task_list]]\ncommand = "true"\ntask_work_path = "a"\n',
    }
    file = tmp_path / f"s.{suffix}"
    file.write_text(texts[suffix])
    found = load_submission(file)
    assert (found.machine.batch_type, found.resources.group_size, found.tasks[0].command) == ("Shell", 2, "true")


def test_a_trailing_comma_is_told_with_the_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"command": "true",\n}')
    message = "task.json: Trailing comma, which JSON does not allow: line 1 column 19"
    assert message in refused(Task.load_from_json, tmp_path / "task.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b"\xff\xfe", "is not UTF-8 text"),
        ("x.json", b"[" * 100_000, "is nested too deeply"),
        ("x.yaml", b"&a {b: *a}", "is nested too deeply"),
        ("x.toml", b"a = b", "Invalid value"),
        ("x.json", b'{"$ref": "y.json"}', "No such file or directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    told = refused(lambda path: loading.load(path, allow_ref=True), tmp_path / name)
    assert told.startswith(str(tmp_path / name))
    assert message in told


def test_a_file_of_a_windows_editor(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(TASK).encode())
    assert Task.load_from_json(tmp_path / "t.json").command == "true"


def test_references_to_other_files(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps(TASK))
    (tmp_path / "t.json").write_text(json.dumps({"$ref": "base.json", "command": "false"}))
    assert "$ref is not allowed by default" in refused(Task.load_from_json, tmp_path / "t.json")
    task = Task.load_from_json(tmp_path / "t.json", allow_ref=True)
    assert (task.command, task.task_work_path) == ("false", "a")
    (tmp_path / "base.json").write_text(json.dumps({"$ref": "t.json"}))
    with pytest.raises(DescriptionError, match="leads back to itself"):
        loading.load(tmp_path / "t.json", allow_ref=True)


def test_a_machine_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "pilotfish" / "machines"
    folder.mkdir(parents=True)
    (folder / "hpc.json").write_text(json.dumps(SSH))
    given = {"work_base": "w", "machine": "hpc", "resources": {"group_size": 1}, "task_list": [TASK]}
    (tmp_path / "s.json").write_text(json.dumps(given))
    assert load_submission(tmp_path / "s.json").machine.profile["hostname"] == "login.hpc"
    (tmp_path / "s.json").write_text(json.dumps(given | {"machine": "pilotfish/machines/hpc.json"}))
    assert load_submission(tmp_path / "s.json").machine.profile["hostname"] == "login.hpc"
    (tmp_path / "s.json").write_text(json.dumps(given | {"machine": "hcp"}))
    assert "there is no machine 'hcp'; did you mean 'hpc'?" in refused(load_submission, tmp_path / "s.json")


def test_every_key_has_a_meaning() -> None:
    of_systems = {name: registry.keys(name).keys for name in registry.names()}
    assert all(key.meaning and section for section, key in rows(of_systems))
