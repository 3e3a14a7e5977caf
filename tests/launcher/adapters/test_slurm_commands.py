"""`pilotfish as slurm -- PROGRAM`, from its commands to its jobs and back; what Slurm prints was compared in tests/cluster."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patience import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from slurm_pilot import Cluster


def test_a_batch_script(slurm: Cluster, wd: Path) -> None:
    """Its lines, its arguments, its files, its exit code."""
    (wd / "job.sh").write_text(
        "#!/bin/bash\n#SBATCH --job-name=first -n 2\n#SBATCH --output=%x-%j.out\n#SBATCH -e err\n"
        'echo "$1 $SLURM_JOB_ID $SLURM_NTASKS $SLURM_JOB_NAME $PWD"; echo bad >&2; exit 3\n'
    )
    line = slurm("sbatch", "job.sh", "word", cwd=wd)
    assert line.startswith("Submitted batch job ")
    job = line.split()[-1]
    slurm.until(job, "FAILED")
    assert (wd / f"first-{job}.out").read_text() == f"word {job} 2 first {wd}\n"
    assert (wd / "err").read_text() == "bad\n"
    fields = "JobID,JobName,Partition,AllocCPUS,State,ExitCode"
    assert slurm("sacct", "-P", "-j", job, "-o", fields).splitlines() == [
        "JobID|JobName|Partition|AllocCPUS|State|ExitCode",
        f"{job}|first|debug|2|FAILED|3:0",
        f"{job}.batch|batch||2|FAILED|3:0",
    ]
    assert slurm("squeue", "-h", "-j", job) == ""
    assert slurm("squeue", "-h", "-t", "all", "-j", job, "-o", "%i|%j|%t|%R") == f"{job}|first|F|(NonZeroExitCode)\n"


def test_the_environment_is_slurms(slurm: Cluster, wd: Path) -> None:
    """Two nodes; what the submitting program had is there too, and the pilot's own sbatch is not ours."""
    job = slurm.submit("-N2", "--ntasks-per-node=2", "-c2", "-W", "-o", "out", "--wrap", "env", cwd=wd, MINE="1")
    found = dict(line.split("=", 1) for line in (wd / "out").read_text().splitlines() if "=" in line)
    expected = {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NODELIST": "n[0-1]",
        "SLURM_NNODES": "2",
        "SLURM_JOB_CPUS_PER_NODE": "4(x2)",
        "SLURM_TASKS_PER_NODE": "2(x2)",
        "SLURM_NTASKS": "4",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_CPUS_ON_NODE": "4",
        "SLURMD_NODENAME": "n0",
        "SLURM_SUBMIT_DIR": str(wd),
        "ENVIRONMENT": "BATCH",
        "MINE": "1",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "SLURM_ARRAY_TASK_ID" not in found


def test_sbatch_waits_and_reads_its_stdin(slurm: Cluster, wd: Path) -> None:
    """`--wait`: its exit code is the job's."""
    slurm("sbatch", "-W", "-o", "out", cwd=wd, stdin="#!/bin/sh\necho $SLURM_JOB_NAME\nexit 5\n", code=5)
    assert (wd / "out").read_text() == "sbatch\n"


def test_what_is_no_script_is_refused(slurm: Cluster, wd: Path) -> None:
    """In Slurm's words; nothing was submitted."""
    refused = slurm.run("sbatch", cwd=wd, stdin="echo\n", code=1)
    assert refused.stderr.startswith("sbatch: error: This does not look like a batch script.  The first\n")
    assert slurm.run("salloc", "-n1", code=1).stderr.startswith("salloc: error: not served by a pilot: ")
    assert slurm.run("squeue", "-j", "9999", code=1).stderr == "slurm_load_jobs error: Invalid job id specified\n"


def test_an_array(slurm: Cluster, wd: Path) -> None:
    """Each element has its number, its file and its state."""
    job = slurm.submit(
        "-a", "1-3%2", "-W", "--wrap", "echo $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID - 1))", cwd=wd, code=2
    )
    assert [(wd / f"slurm-{job}_{index}.out").read_text() for index in (1, 2, 3)] == ["1\n", "2\n", "3\n"]
    lines = slurm("sacct", "-nXP", "-j", job, "-o", "JobID,State,ExitCode").splitlines()
    assert lines == [f"{job}_1|COMPLETED|0:0", f"{job}_2|FAILED|1:0", f"{job}_3|FAILED|2:0"]


def test_dependencies_holds_and_cancels(slurm: Cluster, wd: Path) -> None:
    """The reasons that squeue shows are Slurm's."""
    first = slurm.submit("-H", "-J", "first", "--wrap", "exit 1", cwd=wd)
    good = slurm.submit("-d", f"afternotok:{first}", "--wrap", "true", cwd=wd)
    never = slurm.submit("-d", f"afterok:{first}", "--wrap", "true", cwd=wd)
    jobs = f"{first},{good},{never}"
    rows = slurm("squeue", "-h", "-j", jobs, "-o", "%i %T %r %E").splitlines()
    assert sorted(rows) == [
        f"{first} PENDING JobHeldUser (null)",
        f"{good} PENDING Dependency afternotok:{first}(unfulfilled)",
        f"{never} PENDING Dependency afterok:{first}(unfulfilled)",
    ]
    slurm("scontrol", "release", first)
    slurm.until(good, "COMPLETED")
    assert slurm("squeue", "-h", "-j", never, "-o", "%T %r") == "PENDING DependencyNeverSatisfied\n"
    slurm("scancel", never)
    assert slurm.state(never) == f"CANCELLED by {os.getuid()}"


def test_steps(slurm: Cluster, wd: Path) -> None:
    """Exit codes, labels, messages; sacct lists them."""
    (wd / "job.sh").write_text(
        "#!/bin/bash\n#SBATCH -n 3 -o out\n"
        "srun -n1 bash -c 'exit 3'; echo code $?\n"
        "srun -l bash -c 'echo $SLURM_PROCID of $SLURM_NTASKS; exit 0'; echo code $?\n"
        "srun -n1 -J killed bash -c 'kill -9 $$'; echo code $?\n"
        "srun -n9 hostname; echo code $?\n"
        "srun -n1 --exact -o 'step-%s-%t' echo a & srun -n1 --exact true & wait\n"
        "for name in $(compgen -v SLURM_); do unset $name; done; srun -n1 bash -c 'echo $SLURM_JOB_NUM_NODES'\n"
    )
    job = slurm.submit("-W", "job.sh", cwd=wd)
    lines = (wd / "out").read_text().splitlines()
    assert sorted(line for line in lines if "of 3" in line) == ["0: 0 of 3", "1: 1 of 3", "2: 2 of 3"]
    assert [line for line in lines if "of 3" not in line] == [
        "srun: error: n0: task 0: Exited with exit code 3",
        "code 3",
        "code 0",
        "srun: error: n0: task 0: Killed",
        "code 137",
        f"srun: error: Unable to create step for job {job}: More processors requested than permitted",
        "code 1",
        "1",
    ]
    assert [(wd / f"step-{step}-0").exists() for step in (3, 4)].count(True) == 1
    rows = slurm("sacct", "-nP", "-j", job, "-o", "JobID,JobName,State,ExitCode,NTasks").splitlines()
    assert rows[:5] == [
        f"{job}|job.sh|COMPLETED|0:0|",
        f"{job}.batch|batch|COMPLETED|0:0|1",
        f"{job}.0|bash|FAILED|3:0|1",
        f"{job}.1|bash|COMPLETED|0:0|3",
        f"{job}.2|killed|CANCELLED|0:9|1",
    ]


def test_steps_wait_for_the_cores_of_others(slurm: Cluster, wd: Path) -> None:
    """Without --exact a step takes all cores of the job: the second begins when the first has ended."""
    (wd / "job.sh").write_text(
        "#!/bin/bash\n#SBATCH -n 2 -o out\n"
        "srun -n1 bash -c 'touch first; until [ -e go ]; do sleep 0.02; done; rm first' &\n"
        "until [ -e first ]; do sleep 0.02; done\n"
        "srun -n1 bash -c '[ -e first ] || touch alone' & \n"
        "until grep -q disabled out; do sleep 0.02; done; touch go; wait\n"
    )
    slurm.submit("-W", "job.sh", cwd=wd)
    assert (wd / "alone").exists()


def test_srun_outside_of_a_job(slurm: Cluster, wd: Path) -> None:
    """A job of one step: its output and its exit code are srun's."""
    done = slurm.run("srun", "-n2", "-l", "sh", "-c", "echo $SLURM_PROCID; echo x >&2; exit 4", cwd=wd, code=4)
    assert sorted(done.stdout.splitlines()) == ["0: 0", "1: 1"]
    assert sorted(done.stderr.splitlines()) == ["0: x", "1: x"]


def test_a_signal_for_the_batch_shell(slurm: Cluster, wd: Path) -> None:
    """`scancel --signal`; the job goes on."""
    script = "trap 'echo usr1; exit 6' USR1; touch ready; while :; do sleep 0.05; done"
    job = slurm.submit("-o", "out", "--wrap", script, cwd=wd)
    wait_until((wd / "ready").exists, "the trap is set")
    slurm("scancel", "-b", "-s", "USR1", job)
    slurm.until(job, "FAILED")
    assert (wd / "out").read_text() == "usr1\n"


def test_cancel_and_requeue_what_runs(slurm: Cluster, wd: Path) -> None:
    """A requeued job keeps its id and counts its starts."""
    job = slurm.submit(
        "-o", "out", "--wrap", 'touch ran$SLURM_RESTART_COUNT; [ "$SLURM_RESTART_COUNT" ] || sleep 600', cwd=wd
    )
    wait_until((wd / "ran").exists, "it runs")
    slurm.until(job, "RUNNING")
    slurm("scontrol", "requeue", job)
    slurm.until(job, "COMPLETED")
    assert (wd / "ran1").exists()
    other = slurm.submit("--wrap", "touch other; exec sleep 600", cwd=wd)
    wait_until((wd / "other").exists, "it runs")
    slurm.until(other, "RUNNING")
    slurm("scancel", other)
    slurm.until(other, f"CANCELLED by {os.getuid()}")
    wait_until(lambda: slurm("squeue", "-h", "-j", other) == "", "it is gone")
    assert "ExitCode=0:15" in slurm("scontrol", "show", "job", other)


def test_a_job_submits_another(slurm: Cluster, wd: Path) -> None:
    """Nothing of the first is in the second but what it has set itself."""
    inner = 'sbatch -W -o inner --wrap "env"'
    slurm.submit("-W", "-a", "7", "-o", "outer", "--wrap", f"export MINE=2; {inner}", cwd=wd)
    names = {line.split("=")[0] for line in (wd / "inner").read_text().splitlines()}
    assert "MINE" in names
    assert "SLURM_ARRAY_TASK_ID" not in names


def test_a_login_shell_finds_the_commands(slurm: Cluster, wd: Path) -> None:
    """Profiles make the PATH anew; the job's commands are ours all the same. So is the environment that sbatch is to get."""
    (wd / "job.sh").write_text(
        "#!/bin/bash -l\n#SBATCH -o out --get-user-env\nunset PILOTFISH_SLURM_JOB; command -v sbatch\n"
    )
    (wd / ".bash_profile").write_text("PATH=/usr/bin:/bin\nexport OF_PROFILE=1\n")
    slurm.submit("-W", "job.sh", cwd=wd, HOME=str(wd))
    assert (wd / "out").read_text() == f"{slurm('sh', '-c', 'command -v sbatch')}"


def test_commands_where_the_socket_is_not(slurm: Cluster, wd: Path) -> None:
    """As on another node: by files in the controller's folder."""
    host, _, folder = slurm.environ["PILOTFISH_SLURM_RELAY"].partition(":")
    away = {"PILOTFISH_SLURM_SOCKET": "/nowhere", "PILOTFISH_SLURM_RELAY": f"not-{host}:{folder}"}
    job = slurm("sbatch", "-W", "--parsable", cwd=wd, stdin="#!/bin/sh\nexit 4\n", code=4, **away).strip()
    assert slurm("sacct", "-nXP", "-j", job, "-o", "ExitCode", **away) == "4:0\n"
    lost = slurm.run("squeue", code=1, PILOTFISH_SLURM_SOCKET="/nowhere")
    assert lost.stderr == "squeue: error: Unable to contact slurm controller (connect failure)\n"


def test_files_that_cannot_be_opened(slurm: Cluster, wd: Path) -> None:
    """As Slurm: FAILED, 0:53."""
    job = slurm.submit("-o", "no/such/folder", "--wrap", "true", cwd=wd)
    slurm.until(job, "FAILED")
    assert slurm("sacct", "-nXP", "-j", job, "-o", "ExitCode") == "0:53\n"


# --- what programs ask, word for word --------------------------------------------------------------------------------------


def test_the_calls_of_snakemake(slurm: Cluster, wd: Path) -> None:
    """Its Slurm executor, 2.8."""
    words = "--parsable --job-name u-1 --output log/%j.log --export=ALL --comment rule_one -A 'pilot' -p 'debug' -t 5"
    words += " --mem 600 --ntasks=1 --cpus-per-task=1 --no-requeue"
    (wd / "log").mkdir()
    line = f"sbatch {words} -D {wd} --wrap='srun -n1 --cpu-bind=q --cpus-per-task=1 true'"
    job = slurm("sh", "-c", line, cwd=wd).strip()
    slurm.until(job, "COMPLETED")
    ask = "sacct -X --parsable2 --clusters all --noheader --format=JobIdRaw,State"
    ask += " --starttime 2020-01-01T00:00 --endtime now --name u-1"
    assert slurm(*ask.split()) == f"{job}|COMPLETED\n"
    assert slurm("squeue", "--format=%i|%T", "--states=all", "--noheader", "--name", "u-1") == f"{job}|COMPLETED\n"
    user = slurm("id", "-un").strip()
    assert slurm("sacctmgr", "-n", "-s", "list", "user", user, "format=account%256").split() == ["pilot"]
    assert slurm("sinfo", "-o", "%P") == "PARTITION\ndebug*\n"
    assert slurm("sacct", "-j", f"{job}.5", "-n", "-X", "-o", "Reason") == ""


def test_the_calls_of_submitit_parsl_psij_and_dask(slurm: Cluster, wd: Path) -> None:
    """submitit 1.5, Parsl 2026.10, PSI/J 0.9, dask-jobqueue 0.9."""
    one, two = (slurm.submit("-W", "--wrap", "true", cwd=wd) for _ in range(2))
    rows = slurm("sacct", "-o", "JobID,State,NodeList", "--parsable2", "-j", one, "-j", two).splitlines()
    assert rows[0] == "JobID|State|NodeList"
    assert [row.split("|")[0] for row in rows[1:]] == [one, f"{one}.batch", two, f"{two}.batch"]
    slurm("sacct", "-X")
    assert slurm("sacct", "-X", "--noheader", "--format=jobid,state%20", "--job", f"{one},{two}").split() == [
        one, "COMPLETED", two, "COMPLETED",
    ]  # fmt: skip
    text = slurm("squeue", "-O", "JobArrayID,StateCompact,Reason", "-t", "all", "--me")
    assert text.splitlines()[0] == f"{'JOBID':<20}{'ST':<20}{'REASON':<20}"
    assert slurm("scancel", "-Q", one) == ""
    assert slurm("scontrol", "show", "hostnames", "n[0-1],a") == "n0\nn1\na\n"


def test_json(slurm: Cluster, wd: Path) -> None:
    """Of squeue and sacct."""
    job = slurm.submit("-W", "--wrap", "exit 2", cwd=wd, code=2)
    (queued,) = json.loads(slurm("squeue", "--json", "-t", "all", "-j", job))["jobs"]
    assert (queued["job_id"], queued["job_state"], queued["exit_code"]) == (int(job), "FAILED", 512)
    (accounted,) = json.loads(slurm("sacct", "--json", "-j", job))["jobs"]
    assert accounted["state"]["current"] == "FAILED"
    assert [step["step"]["id"] for step in accounted["steps"]] == ["batch"]


# --- the program --------------------------------------------------------------------------------------------------------


def test_nobody_else_gets_in(slurm: Cluster) -> None:
    """The socket is in a folder of this user alone."""
    path = Path(slurm.environ["PILOTFISH_SLURM_SOCKET"])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_jobs_that_are_left_are_waited_for(wd: Path) -> None:
    """Those that can never start are cancelled, with a word; the exit code is the program's."""
    script = "A=$(sbatch --parsable -H --wrap true); sbatch -d afterok:$A --wrap true; "
    script += "sbatch -o done --wrap 'sleep 0.3; echo done'; exit 3"
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "as",
        "slurm",
        "--nodes",
        "2",
        "--wd",
        str(wd),
        "--",
        "sh",
        "-c",
        script,
    ]
    environ = {**os.environ, "XDG_STATE_HOME": str(wd)}
    ended = subprocess.run(
        command, cwd=wd, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 3
    assert (wd / "done").read_text() == "done\n"
    assert "pilotfish: job 1 is cancelled: JobHeldUser" in ended.stderr
