"""The same random batch jobs on a real Slurm and on a pilot that answers as one: states, reasons, exit codes, outputs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

from emulated import Slurm
from patience import PATIENCE_S, wait_until

SEED = 20_16
ROUNDS = 10
"""Jobs in all; a real Slurm ends a few in a second."""

_SHAPES = ("", "-N1 -n2", "-N2", "-N2 --ntasks-per-node=2", "-n1 -c2", "--mem=100")
_SHOWN = "SLURM_NTASKS SLURM_JOB_NUM_NODES SLURM_TASKS_PER_NODE SLURM_CPUS_PER_TASK SLURM_JOB_CPUS_PER_NODE SLURM_CPUS_ON_NODE"
_BODIES = (
    "exit {number}",
    "kill -{signal} $$",
    "echo out; echo err >&2; exit {number}",
    "for name in {shown}; do echo $name=${{!name}}; done",
    "srun -n1 bash -c 'exit {number}'; echo $?",
    "srun -l bash -c 'echo $SLURM_PROCID/$SLURM_NTASKS/$SLURM_STEP_ID' | sort; exit {number}",
    "srun -n1 bash -c 'kill -{signal} $$' 2>&-; echo $?",
    "srun -n9 true; echo $?; srun -n1 nosuchprogram 2>&-; echo $?",
    "echo $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MAX; exit ${{SLURM_ARRAY_TASK_ID:-0}}",
    "#SBATCH -n1 --comment='a b'\ncd /; pwd; exit {number}",
)

_WAIT = "while squeue -h -r -o '%T %r' | grep -qv DependencyNeverSatisfied; do sleep 0.2; done"
_SHOW = """\
squeue -h -r -t all -o '%j|%K|%T|%r|%D|%C' | sort
for job in $(squeue -h -r -t CD,F,CA -o '%A' | sort -n); do
    scontrol -o show job $job | grep -oE '(JobName|ArrayTaskId|ExitCode|NumTasks|Restarts)=[^ ]*' | tr '\\n' ' '; echo
done | sort
scancel -u root
for file in *.out; do echo "== $file"; sed -E "s/(job|StepId=)( ?)[0-9]+/\\1\\2N/" $file; done
"""


def _write_scripts(choice: random.Random, folder: Path) -> None:
    """The jobs, and `submit.sh`, which submits them. Those on which others wait do not wait themselves."""
    folder.mkdir()
    submits = ["cd $(dirname $0)"]
    roots: list[str] = []
    for number in range(ROUNDS):
        name = f"j{number:02}"
        body = choice.choice(_BODIES).format(
            number=choice.choice((0, 0, 1, 3, 200)), signal=choice.choice((9, 15, 10)), shown=_SHOWN
        )
        words = [choice.choice(_SHAPES), f"-o {name}-%a.out" if (array := choice.random() < 0.25) else f"-o {name}.out"]
        words += [choice.choice(("-a 0-2", "-a 1-5:2%1"))] if array else []
        waits = bool(roots) and choice.random() < 0.5
        if waits:
            kind = choice.choice(("afterok", "afternotok", "afterany", "after"))
            words.append(f"-d {kind}:${choice.choice(roots)}")
        else:
            roots.append(name)
        (folder / f"{name}.sh").write_text(f"#!/bin/bash\n#SBATCH -J {name} -t 5\n{body}\n")
        submits.append(f"{name}=$(sbatch --parsable {' '.join(words)} {name}.sh)")
    (folder / "submit.sh").write_text("\n".join(submits))
    (folder / "show.sh").write_text(f"cd $(dirname $0)\n{_SHOW}")


def _on_real(slurm: Slurm, folder: Path) -> str:
    slurm.run("bash", str(folder / "submit.sh"))
    clearing_up = slurm._clearing_up()

    def is_settled() -> bool:
        rows = slurm.run("squeue", "-h", "-r", "-o", "%T %r").splitlines()
        clearing_up(any(row.startswith("COMPLETING") for row in rows))
        return all(row.endswith("DependencyNeverSatisfied") for row in rows)

    wait_until(is_settled, "the jobs have ended")
    return slurm.run("bash", str(folder / "show.sh"))


def _on_pilot(slurm: Slurm, folder: Path) -> str:
    nodes = ",".join(f"{name}:2:4000M" for name in slurm.node_names)
    program = ["sh", "-c", f"bash submit.sh; {_WAIT}; bash show.sh"]
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "as",
        "slurm",
        "--nodes",
        nodes,
        "--wd",
        str(folder.parent),
        "--",
        *program,
    ]
    environ = {**os.environ, "XDG_STATE_HOME": str(folder.parent)}
    return subprocess.run(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True
    ).stdout


def test_random_jobs_end_as_on_slurm(slurm: Slurm, wd: Path) -> None:
    """Word for word."""
    for place in ("real", "ours"):
        _write_scripts(random.Random(SEED), wd / place)
    real, ours = _on_real(slurm, wd / "real"), _on_pilot(slurm, wd / "ours")
    assert "\n".join(unified_diff(real.splitlines(), ours.splitlines(), "Slurm", "pilot", lineterm="", n=0)) == ""


def test_steps_over_the_nodes_of_an_allocation(slurm: Slurm, wd: Path) -> None:
    """A pilot in a job of two nodes: steps of its jobs come to the other node by the real srun, unseen by the program."""
    script = "srun -l sh -c 'echo $(hostname) $SLURM_PROCID $MINE'\nsrun sh -c 'exit 3'\necho $?\n"
    (wd / "job.sh").write_text(f"#!/bin/bash\n#SBATCH -N2 -o out\n{script}")
    program = "sh -c 'MINE=1 sbatch -W job.sh; sinfo -h -o %D'"
    pilot = f"{Path(sys.executable).parent}/pilotfish as slurm --partition debug -- {program}"
    job = slurm.submit(f"export XDG_STATE_HOME={wd}\n{pilot}", wd, "--nodes=2")
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    harmless = "srun: cluster configuration lacks support for cpu binding"  # says the real srun
    lines = sorted(line for line in (wd / "out").read_text().splitlines() if line != harmless)
    nodes = [line.split()[1] for line in lines[:2]]
    assert lines[:2] == [f"0: {nodes[0]} 0 1", f"1: {nodes[1]} 1 1"]
    assert len(set(nodes)) == 2
    failures = [f"srun: error: {node}: task {rank}: Exited with exit code 3" for rank, node in enumerate(nodes)]
    assert lines[2:] == ["3", *sorted(failures)]
    assert (wd / f"{job}.out").read_text().splitlines()[-1] == "2"
