"""`--json` of squeue and sacct, as Slurm 22.05 lays it out (openapi v0.0.38); unknown is null or empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ...machines import slurm_facts
from .view import Row, Step


def _document(kind: str, name: str, jobs: list[dict[str, Any]]) -> str:
    major, minor, micro = (int(part) for part in slurm_facts.VERSION.split("."))
    meta = {
        "plugin": {"type": kind, "name": name},
        "Slurm": {"version": {"major": major, "micro": micro, "minor": minor}, "release": slurm_facts.VERSION},
    }
    return json.dumps({"meta": meta, "errors": [], "jobs": jobs}, indent=2) + "\n"


def squeue(rows: Sequence[Row]) -> str:
    return _document("openapi/v0.0.38", "Slurm OpenAPI v0.0.38", [_queued(row) for row in rows])


def _s(seconds: float | None) -> int:
    return int(seconds or 0)


def _queued(row: Row) -> dict[str, Any]:
    job, request = row.job, row.job.request
    shape = request.shape
    return {
        "account": request.account,
        "array_job_id": job.array_id,
        "array_task_id": job.index,
        "array_max_tasks": request.array.at_once if request.array else 0,
        "array_task_string": "",
        "batch_flag": True,
        "batch_host": next(iter(job.nodes), ""),
        "cluster": row.site.name,
        "command": request.command,
        "comment": request.comment,
        "contiguous": False,
        "cpus_per_task": request.cpus_per_task,
        "dependency": row.queue.unmet(job, row.now),
        "derived_exit_code": 256 * job.exit_code,
        "eligible_time": _s(job.eligible or job.submitted),
        "end_time": _s(row.expected_end),
        "excluded_nodes": "",
        "exit_code": 256 * job.exit_code + job.signal,
        "features": "&".join(request.tags),
        "group_id": row.site.uid,
        "job_id": job.id,
        "job_resources": {"nodes": row.nodelist, "allocated_cores": shape.cpus, "allocated_hosts": len(job.nodes)}
        if job.nodes
        else {},
        "job_state": job.state,
        "licenses": "",
        "name": request.name,
        "nodes": row.nodelist,
        "nice": request.nice or None,
        "tasks_per_node": request.ntasks_per_node or 0,
        "cpus": shape.cpus,
        "node_count": row.node_count,
        "tasks": sum(shape.tasks),
        "het_job_id": 0,
        "het_job_offset": 0,
        "partition": request.partition,
        "memory_per_node": shape.mem_mib or None,
        "memory_per_cpu": request.mem_per_cpu,
        "minimum_cpus_per_node": request.cpus_per_task or 1,
        "priority": request.priority or max(0, 4294901760 - job.id),
        "qos": request.qos,
        "required_nodes": "",
        "requeue": request.requeue,
        "restart_cnt": job.restarts,
        "shared": "none" if shape.whole else None,
        "standard_error": row.file("error") if request.error else "",
        "standard_input": row.file("input"),
        "standard_output": row.file("output"),
        "start_time": _s(job.started),
        "state_description": "",
        "state_reason": row.reason,
        "submit_time": _s(job.submitted),
        "suspend_time": 0,
        "time_limit": request.time_limit,
        "tres_req_str": row.tres(),
        "tres_alloc_str": row.tres() if job.started else "",
        "user_id": row.site.uid,
        "user_name": row.site.user,
        "wckey": request.wckey,
        "current_working_directory": request.work_dir,
    }


def sacct(rows: Sequence[Row], steps_of: Callable[[Row], Sequence[Step]]) -> str:
    jobs = [_accounted(row, steps_of(row)) for row in rows]
    return _document("openapi/dbv0.0.38", "Slurm OpenAPI DB v0.0.38", jobs)


def _exit(code: int, signal: int) -> dict[str, Any]:
    if signal:
        return {"status": "SIGNALED", "return_code": code, "signal": {"signal_id": signal, "name": ""}}
    return {"status": "ERROR" if code else "SUCCESS", "return_code": code}


def _accounted(row: Row, steps: Sequence[Step]) -> dict[str, Any]:
    job, request = row.job, row.job.request
    return {
        "account": request.account,
        "comment": {"administrator": None, "job": request.comment or None, "system": None},
        "allocation_nodes": row.node_count,
        "array": {
            "job_id": job.array_id,
            "limits": {"max": {"running": {"tasks": request.array.at_once if request.array else 0}}},
            "task": None,
            "task_id": job.index,
        },
        "association": {"account": request.account, "cluster": row.site.name, "partition": None, "user": row.site.user},
        "cluster": row.site.name,
        "constraints": "&".join(request.tags),
        "derived_exit_code": _exit(job.exit_code, 0),
        "time": {
            "elapsed": int(job.ran_s(row.now)),
            "eligible": _s(job.eligible or job.submitted),
            "end": _s(job.ended),
            "start": _s(job.started),
            "submission": _s(job.submitted),
            "suspended": 0,
            "limit": request.time_limit,
        },
        "exit_code": _exit(job.exit_code, job.signal),
        "group": row.site.user,
        "het": {"job_id": 0, "job_offset": None},
        "job_id": job.id,
        "name": request.name,
        "nodes": row.nodelist or "None assigned",
        "partition": request.partition,
        "qos": request.qos,
        "required": {"CPUs": request.shape.cpus, "memory": request.shape.mem_mib},
        "kill_request_user": row.site.user if job.canceled_by is not None else None,
        "state": {"current": job.state, "reason": row.reason},
        "steps": [_step(row, step) for step in steps],
        "user": row.site.user,
        "wckey": {"wckey": request.wckey, "flags": []},
        "working_directory": request.work_dir,
    }


def _step(row: Row, step: Step) -> dict[str, Any]:
    ended = step.ended or row.now
    return {
        "nodes": {"list": list(step.nodes), "count": len(step.nodes), "range": slurm_facts.hostlist(step.nodes)},
        "time": {"elapsed": int(max(0.0, ended - step.started)), "end": _s(step.ended), "start": _s(step.started)},
        "exit_code": _exit(step.exit_code, step.signal),
        "tasks": {"count": step.tasks},
        "state": step.state,
        "step": {"job_id": row.job.id, "het": {"component": None}, "id": step.id, "name": step.name},
    }
