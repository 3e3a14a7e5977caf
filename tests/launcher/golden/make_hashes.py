"""Writes hashes.json: what the real DPDispatcher 1.1.0 gives. Run it in an environment that has it; the tests do not need it.

python tests/launcher/golden/make_hashes.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dpdispatcher import Job, Machine, Resources, Submission, Task  # type: ignore[import-not-found]

TASKS: list[dict[str, Any]] = [
    {"command": "./go < in > out", "task_work_path": "a/", "forward_files": ["in", "x*"], "backward_files": ["out"]},
    {"command": "echo 'ü' \"$HOME\"\n", "task_work_path": ".", "outlog": "ö.log", "errlog": None},
    {"command": "true", "task_work_path": "deep/er/", "outlog": None, "errlog": None, "task_name": "my task"},
    {"command": "sleep 1", "task_work_path": "b", "_comment": "dropped"},
    {
        "errlog": "e/ö",
        "task_name": None,
        "task_work_path": "",
        "command": "tab\t \u2028 \U0001f600 'q' \"qq\" \\ e\u0301",
    },
    {"command": "x", "task_work_path": "a//b/", "forward_files": ["b", "a", "a"], "backward_files": ["**/*.dat", "d/"]},
]
RESOURCES: list[dict[str, Any]] = [
    {"group_size": 1},
    {"group_size": 0, "number_node": 4, "cpu_per_node": 16, "queue_name": "q", "wait_time": 1.5, "para_deg": 3},
    {
        "group_size": 4,
        "gpu_per_node": 2,
        "strategy": {"ratio_unfinished": 0.5, "if_cuda_multi_devices": False},
        "custom_flags": ["#SBATCH --time=2:00:00"],
        "envs": {"Z": 1, "A": ["ü", 1.5], "_gone": 1, "T": True},
        "kwargs": {"custom_gpu_line": None, "_c": 1, "other": "x"},
    },
    {"group_size": 1, "strategy": {"if_cuda_multi_devices": True}, "gpu_per_node": 4, "number_node": True},
    {"group_size": 2, "module_list": ["a"], "module_unload_list": ["b"], "module_purge": True, "source_list": ["s x"]},
    {
        "group_size": 2,
        "prepend_script": ["a"],
        "append_script": ["b"],
        "strategy": {"customized_script_header_template_file": "h"},
    },
    {"group_size": 1, "batch_type": "Slurm"},
    {"group_size": 1, "batch_type": "Slurm", "kwargs": {"x": 1}},
    {"group_size": 1, "batch_type": "SlurmJobArray", "kwargs": {"slurm_job_size": 2}},
    {"group_size": 1, "batch_type": "LSF", "kwargs": {"gpu_usage": True}},
    {"group_size": 1, "batch_type": "SGE", "kwargs": {"sge_pe_name": "orte"}},
    {"group_size": 1, "batch_type": "JH_UniScheduler", "kwargs": {}},
    {"group_size": 1, "batch_type": "slurm", "kwargs": {}},
    {"kwargs": {"_c": 1}, "group_size": 1, "batch_type": "SlurmJobArray"},
    {
        "group_size": 1,
        "batch_type": "SGE",
        "kwargs": {"job_name": "j", "own": [1, {"_kept": 2}], "sge_pe_name": "orte"},
    },
    {"group_size": 1, "batch_type": "PBS", "kwargs": {}},
    {"group_size": 5, "wait_time": 2.0, "strategy": {"_c": 1, "ratio_unfinished": 0}},
    {
        "group_size": 5,
        "wait_time": 1e-7,
        "strategy": {"ratio_unfinished": 0.1, "customized_script_header_template_file": "h"},
    },
    {"group_size": 5, "wait_time": 1e22, "queue_name": "ü", "cpu_per_node": True, "module_purge": False},
    {"group_size": 1, "envs": {"N": None, "F": 0.1, "L": [], "D": {"_kept": 1}, "E": "\u0301", "B": 10**25, "f": 1e16}},
]
SIZES = [(1, 0), (2, 1), (5, 0), (5, 2), (7, 7), (10, 3), (31, 4), (99, 10), (99, 100), (200, 1), (257, 16)]


def main() -> None:
    tasks = [Task.load_from_dict(dict(each)) for each in TASKS]
    resources = [Resources.load_from_dict(dict(each)) for each in RESOURCES]
    machine = Machine.load_from_dict({"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."})
    groups = []
    for count, size in SIZES:
        members = [Task(command=str(number), task_work_path="x") for number in range(count)]
        asked = Resources.load_from_dict({"group_size": size})
        submission = Submission(work_base=".", machine=machine, resources=asked, task_list=members)
        submission.generate_jobs()
        order = [[int(task.command) for task in job.job_task_list] for job in submission.belonging_jobs]
        groups.append({"count": count, "size": size, "groups": order})
    found = {
        "tasks": [{"given": each, "hash": task.task_hash} for each, task in zip(TASKS, tasks, strict=True)],
        "resources": [
            {
                "given": each,
                "written": asked.serialize(),
                "job_hash": Job(job_task_list=tasks, resources=asked, machine=None).job_hash,
            }
            for each, asked in zip(RESOURCES, resources, strict=True)
        ],
        "groups": groups,
    }
    Path(__file__).with_name("hashes.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
