"""A real Grid Engine on emulated hosts, from the unpacked packages of `get-gridengine`."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from emulated import Hosts
from patience import PATIENCE_S, wait_until

PROGRAMS = Path("/usr/lib/gridengine")
_SHARE = Path("/usr/share/gridengine")


class GridEngine:
    """Master on `ctl`, an execution host for each of `nodes` hosts `node1`, `node2` ... with `slots` slots.

    Parallel environments: `smp` (one host), `mpi` (hosts in turns), `fill` (host by host). Use as a context manager.
    """

    def __init__(self, *, nodes: int = 3, slots: int = 2) -> None:
        self.node_names = [f"node{number + 1}" for number in range(nodes)]
        self._slots = slots

    def __enter__(self) -> GridEngine:
        self.folder = Path("/tmp") / f"pf-sge-{secrets.token_hex(4)}"
        self.root = self.folder / "root"
        for name in ("root/default/common", "spool/qmaster/job_scripts", "spool/execd", "new"):
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "lib", "utilbin"):
            (self.root / name).mkdir()
            (self.root / name / "lx-amd64").symlink_to(PROGRAMS)
        (self.root / "util").symlink_to(_SHARE / "util")
        self.hosts = Hosts(self.node_names, self.folder, network=True)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("SGE", "PILOTFISH"))}
        self.environ |= {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": "default",
            "SGE_ARCH": "lx-amd64",
            "SGE_QMASTER_PORT": "16444",
            "SGE_EXECD_PORT": "16445",
            "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        }
        try:
            self._configure()
            self._start_all()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hosts.close()  # ends the daemons too
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- using it -------------------------------------------------------------------------------------------------------

    def run(self, *words: str) -> str:
        """Run one of its commands on `ctl`; its output. Fails when the command does."""
        done = self._try(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, wd: Path, *options: str) -> str:
        """`qsub` of a shell script, with output in WD/ID.out; returns the job's number."""
        file = wd / f"job-{secrets.token_hex(4)}.sh"
        file.write_text(f"#!/bin/bash\n{script}\n")
        words = ["-terse", "-V", "-wd", str(wd), "-j", "yes", "-o", f"{wd}/$JOB_ID.out", *options, str(file)]
        return self.run("qsub", *words).strip()

    def wait_for_end(self, job: str, timeout_s: float = 100.0) -> dict[str, str]:
        """What `qacct` tells of a job, when it has ended: `failed`, `exit_status` and so on."""
        wait_until(lambda: self._try("qacct", "-j", job).returncode == 0, f"job {job} to end", timeout_s)
        lines = self.run("qacct", "-j", job).splitlines()
        return {words[0]: words[1].strip() for line in lines if len(words := line.split(maxsplit=1)) == 2}

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.hosts.ctl.command(*words)
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    # --- starting it ----------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        common = self.root / "default" / "common"
        (common / "act_qmaster").write_text("ctl\n")
        (common / "bootstrap").write_text(_BOOTSTRAP.format(root=self.root, folder=self.folder))
        text = (_SHARE / "default-configuration").read_text()
        for name, value in {"execd_spool_dir": f"{self.folder}/spool/execd", **_CONFIGURATION}.items():
            text = re.sub(rf"^{name} .*$", f"{name} {value}", text, flags=re.MULTILINE)
        (self.folder / "configuration").write_text(text)
        spooling = ["classic", "libspoolc", f"{common};{self.folder}/spool/qmaster"]
        resources = _SHARE / "util" / "resources"
        self.run("spoolinit", *spooling, "init")
        for kind, place in [
            ("configuration", self.folder / "configuration"),
            ("complexes", resources / "centry"),
            ("usersets", resources / "usersets"),
            ("managers", "root"),
        ]:
            self.run("env", f"LD_LIBRARY_PATH={PROGRAMS}", str(PROGRAMS / "spooldefaults.bin"), kind, str(place))

    def _start_all(self) -> None:
        self.run(str(PROGRAMS / "sge_qmaster"))
        wait_until(lambda: self._try("qconf", "-sconf").returncode == 0, "qmaster")
        for name in ["ctl", *self.node_names]:
            self._try("qconf", "-ah", name)
            self.run("qconf", "-as", name)
        for host in self.hosts.nodes:
            command = host.command(str(PROGRAMS / "sge_execd"))
            subprocess.run(command, env=self.environ, check=True, capture_output=True)
        self._add("-Ahgrp", f"group_name @allhosts\nhostlist {' '.join(self.node_names)}\n")
        for name, rule in [("smp", "$pe_slots"), ("mpi", "$round_robin"), ("fill", "$fill_up")]:
            self._add("-Ap", _PARALLEL.format(name=name, rule=rule))
        limits = "".join(f"{kind}_{what} INFINITY\n" for kind in "sh" for what in _LIMITS)
        self._add("-Aq", _QUEUE.format(slots=self._slots) + limits)
        plan = self.run("qconf", "-ssconf")
        for name, value in _SCHEDULER.items():
            plan = re.sub(rf"^{name} .*$", f"{name} {value}", plan, flags=re.MULTILINE)
        self._add("-Msconf", plan)
        wait_until(lambda: self._ready() == len(self.node_names), lambda: f"all hosts: {self.run('qstat', '-f')}")

    def _ready(self) -> int:
        """Hosts whose queue takes jobs: the line has an architecture and no state letters after it."""
        return len(re.findall(r"^all\.q@.*lx-amd64\s*$", self._try("qstat", "-f").stdout, re.MULTILINE))

    def _add(self, option: str, text: str) -> None:
        file = self.folder / "new" / "object"
        file.write_text(text)
        self.run("qconf", option, str(file))


_BOOTSTRAP = """admin_user root
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {root}/default/common;{folder}/spool/qmaster
binary_path {root}/bin
qmaster_spool_dir {folder}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""

_CONFIGURATION = {
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:02",
    "max_unheard": "00:00:15",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00",
    "shell_start_mode": "unix_behavior",
    "mailer": "/bin/true",
}

_SCHEDULER = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "job_load_adjustments": "NONE",
}

_PARALLEL = """pe_name {name}
slots 9999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule {rule}
control_slaves TRUE
job_is_first_task FALSE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""

_LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")

_QUEUE = """qname all.q
hostlist @allhosts
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list smp mpi fill
rerun FALSE
slots {slots}
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:05
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
"""
