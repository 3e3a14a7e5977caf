"""Writes machines.json: scripts, requests and status words of the real DPDispatcher 1.1.0, for all of its machines.

Run it in an environment that has it (with bohrium-sdk and oss2); nothing is submitted, and the tests do not need it.

python tests/launcher/golden/make_machines.py
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

os.environ |= {"BOHRIUM_ACCESS_KEY": "key", "HOME": tempfile.mkdtemp()}
os.chdir(os.environ["HOME"])

from dpdispatcher import Machine, Resources, Submission, Task  # type: ignore[import-not-found] # noqa: E402
from dpdispatcher.machines import distributed_shell, dp_cloud_server, openapi  # type: ignore[import-not-found] # noqa: E402
from dpdispatcher.utils.hdfs_cli import HDFS  # type: ignore[import-not-found] # noqa: E402

HERE = Path(__file__).parent
TASKS: list[dict[str, Any]] = [
    {"command": "./go < in > out", "task_work_path": "a/", "forward_files": ["in"], "backward_files": ["out", "x*"]},
    {"command": "true", "task_work_path": "./b", "backward_files": ["y"], "outlog": "b.log", "task_name": "n"},
]
PLAIN: dict[str, Any] = {"group_size": 2, "number_node": 2, "cpu_per_node": 8, "gpu_per_node": 1, "queue_name": "q"}
RICH: dict[str, Any] = {
    **PLAIN,
    "queue_name": "",
    "gpu_per_node": 0,
    "custom_flags": ["# a line of the site"],
    "module_purge": True,
    "module_list": ["gcc/12", "openmpi"],
    "module_unload_list": ["intel"],
    "source_list": ["/opt/env.sh 'a b'"],
    "envs": {"OMP_NUM_THREADS": 4, "A": "x y"},
    "prepend_script": ["echo before"],
    "append_script": ["echo after"],
}
KWARGS = {
    "SGE": {"sge_pe_name": "orte"},
    "LSF": {"gpu_usage": True, "gpu_new_syntax": True},
    "DistributedShell": {"yarn_path": "/opt/hadoop", "img_name": "registry/image:1", "mem_limit": 4},
}
INPUT = {"job_type": "container", "platform": "ali", "machine_type": "c2", "image_name": "i", "log_file": "l"}
PROFILES: dict[str, dict[str, Any]] = {
    "Bohrium": {"email": "a@b", "password": "p", "program_id": 12, "input_data": {**INPUT, "max_run_time": 5}},
    "OpenAPI": {"project_id": 12, "machine_type": "c2", "image_address": "i", "real_user_id": 3},
}
CONTEXTS = {"DistributedShell": "HDFS", "Bohrium": "Bohrium", "OpenAPI": "OpenAPI"}
MACHINES = ["Slurm", "SlurmJobArray", "PBS", "Torque", "LSF", "SGE", "JH_UniScheduler", "Shell", "Fugaku", *CONTEXTS]


def submission(name: str, asked: dict[str, Any]) -> Any:
    given: dict[str, Any] = {
        "batch_type": name,
        "context_type": CONTEXTS.get(name, "LazyLocal"),
        "local_root": os.getcwd(),
    }
    given |= {"remote_root": "/user/ann", "remote_profile": PROFILES.get(name, {})}
    asked = {**asked, "kwargs": KWARGS.get(name, {})}
    with mock.patch.object(HDFS, "mkdir"):
        made = Submission(
            work_base=".",
            machine=Machine.load_from_dict(given),
            resources=Resources.load_from_dict({**asked, "batch_type": name}),
            task_list=[Task.load_from_dict(dict(each)) for each in TASKS],
        )
        made.generate_jobs()
    return made


def script(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    made = submission(name, asked)
    (job,) = made.belonging_jobs
    machine = made.machine
    environment = machine.gen_script_env(job).splitlines()
    return {
        "machine": name,
        "resources": {**asked, "kwargs": KWARGS.get(name, {})},
        "job_hash": job.job_hash,
        "tasks": [task.task_hash for task in job.job_task_list],
        "file": job.script_file_name,
        "header": machine.gen_script_header(job).splitlines(),
        "flags": machine.gen_script_custom_flags_lines(job),
        "environment": [
            re.sub(r"^\{ (.*); \}\s*$", r"\1", line)
            for line in environment
            if re.match(r"(export|module|source|\{ source) ", line)
        ],
    }


def yarn_command() -> str:
    """As it is given to a shell, without its own folder."""
    made = submission("DistributedShell", PLAIN)
    (job,) = made.belonging_jobs
    asked: list[str] = []

    def note(command: str, **more: Any) -> tuple[int, bytes, bytes]:
        asked.append(command)
        return 0, b"1", b""

    with mock.patch.object(distributed_shell, "run_cmd_with_all_output", note):
        made.machine.context.write_file = lambda **more: None
        made.machine.context.write_file = lambda *given, **more: None
        made.machine.do_submit(job)
    return asked[0]


def bohrium_request() -> dict[str, Any]:
    made = submission("Bohrium", PLAIN)
    (job,) = made.belonging_jobs
    job.upload_path = "program/12/uuid/job.zip"
    with mock.patch.object(made.machine.api, "post", return_value={"jobId": 1, "jobGroupId": 2}) as post:
        job_id = made.machine.do_submit(job)
    return {"path": post.call_args.args[0], "body": post.call_args.args[1], "id": job_id}


def openapi_requests() -> list[dict[str, Any]]:
    made = submission("OpenAPI", PLAIN)
    (job,) = made.belonging_jobs
    asked: list[dict[str, Any]] = []

    class Answer:
        def json(self) -> dict[str, Any]:
            data = {"jobId": 7, "jobGroupId": 70, "token": "t", "storePath": "store/7/", "storeHost": ""}
            return {"code": 0, "data": data}

    def post(path: str, json: Any = None, **more: Any) -> Answer:
        asked.append({"path": path, "body": json})
        return Answer()

    context = made.machine.context
    with (
        mock.patch.object(context.client, "post", post),
        mock.patch.object(made.machine.client, "post", post),
        mock.patch("bohrium.resources.Tiefblue.upload_From_file_multi_part"),
    ):
        Path("a").mkdir(exist_ok=True)
        Path("a/in").touch()
        context.upload_job(job, [])
        made.machine.do_submit(job)
    return asked


def states() -> dict[str, list[list[Any]]]:
    """(word, exit code, whether exit codes are ignored, state) of both clouds."""
    cases = [(word, code, ignore) for word in range(-3, 13) for code in (0, 1) for ignore in (True, False)]
    maps = {"Bohrium": dp_cloud_server.Bohrium, "OpenAPI": openapi.OpenAPI}
    return {name: [[*case, int(kind.map_dp_job_state(*case))] for case in cases] for name, kind in maps.items()}


def main() -> None:
    found = {
        "tasks": TASKS,
        "profiles": PROFILES,
        "scripts": [script(name, asked) for name in MACHINES for asked in (PLAIN, RICH)],
        "yarn_command": yarn_command(),
        "bohrium_request": bohrium_request(),
        "openapi_requests": openapi_requests(),
        "states": states(),
    }
    (HERE / "machines.json").write_text(json.dumps(found, indent=1, default=list) + "\n")


if __name__ == "__main__":
    main()
