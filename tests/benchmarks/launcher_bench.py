"""What the launcher costs over a link with a round trip of 60 ms: polling, uploads, many jobs, and a pilot against plain jobs.

python tests/benchmarks/launcher_bench.py      (root; slurm-wlm, munge, openssh-server, iproute2)

Hosts are emulated on this machine (tests/cluster/emulated.py): a laptop, a login node with an sshd, a Slurm of three nodes.
The laptop's connections go through a relay that holds every byte back for 30 ms each way. All share this machine's processors.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "cluster")]

_DELAY_S = 0.03
"""Each way."""
_PORT = 2200


def main() -> None:
    if len(sys.argv) > 1:
        inside(Path(sys.argv[1]))
        return
    from emulated import Slurm, start_login_node

    wd = Path(tempfile.mkdtemp(prefix="pf-"))
    try:
        with Slurm(nodes=4, cpus=2, network=True) as slurm:
            kind, key = start_login_node(slurm, wd)
            (wd / "known_hosts").write_text(f"[127.0.0.1]:{_PORT} {kind} {key}\n")
            (wd / "host.json").write_text(json.dumps({"address": slurm.hosts.ctl.address}))
            environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
            environ |= {"PILOTFISH_HOME": str(wd / "home")}
            command = slurm.hosts["node4"].command(sys.executable, __file__, str(wd))
            subprocess.run(command, env=environ, check=True)
    finally:
        shutil.rmtree(wd, ignore_errors=True)


# --- on the laptop --------------------------------------------------------------------------------------------------------


async def relay(address: str) -> None:
    """A port on the laptop that leads to the login node's sshd, slowly."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, block = await waiting.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not block:
                    writer.close()
                    return
                writer.write(block)
                await writer.drain()

        sending = asyncio.create_task(send())
        while True:
            block = await reader.read(1 << 16)
            waiting.put_nowait((time.monotonic() + _DELAY_S, block))
            if not block:
                break
        await sending

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(address, 22)
        with suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", _PORT)
    await server.serve_forever()


def inside(wd: Path) -> None:
    address = json.loads((wd / "host.json").read_text())["address"]
    slow = multiprocessing.Process(target=lambda: asyncio.run(relay(address)), daemon=True)
    slow.start()
    profile = {
        "hostname": "127.0.0.1",
        "port": _PORT,
        "username": "root",
        "key_filename": str(wd / "user"),
        "known_hosts": str(wd / "known_hosts"),
        "ssh_config": "/dev/null",
    }
    machine = {
        "batch_type": "Slurm",
        "context_type": "SSH",
        "local_root": str(wd / "laptop"),
        "remote_root": str(wd / "scratch"),
        "remote_profile": profile,
    }
    (wd / "laptop").mkdir()
    connect(machine)
    upload(wd, machine)
    jobs = submission(wd, machine, "plain", 1000, {"group_size": 10})
    timed("1,000 tasks in 100 jobs of Slurm: all submitted", lambda: jobs.run(detach=True))
    poll(jobs)
    timed("  and all done and home, from there", lambda: jobs.run(check_interval_s=5))
    pilot = {"python": sys.executable}
    asked = {"number_node": 3, "cpu_per_node": 2, "custom_flags": ["#SBATCH --exclude=node4"]}
    through = submission(wd, machine, "pilot", 1000, asked, pilot=pilot)
    timed("1,000 tasks through one pilot on 3 nodes, results home", lambda: through.run(check_interval_s=5))


def timed(what: str, action: Any) -> float:
    begin = time.perf_counter()
    action()
    seconds = time.perf_counter() - begin
    print(f"{what:60} {seconds:8.2f} s", flush=True)
    return seconds


def connect(machine: dict[str, Any]) -> None:
    from pilotfish.launcher.contexts.registry import build_context
    from pilotfish.launcher.description.machine import parse_machine

    with build_context(parse_machine(machine)) as context:
        timed("first command, with logging in", lambda: context.run("true"))
        timed("a command (60 ms round trip)", lambda: context.run("true"))


def upload(wd: Path, machine: dict[str, Any]) -> None:
    from pilotfish.launcher.contexts import globs as staging
    from pilotfish.launcher.contexts.registry import build_context
    from pilotfish.launcher.description.machine import parse_machine

    work = wd / "laptop" / "many"
    for number in range(10_000):
        folder = work / f"d{number % 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(500))
    files = staging.forward(["*"], work, "")
    with build_context(parse_machine(machine)) as context:
        root = context.root_for("upload", "many")
        timed("upload of 10,000 files of 500 bytes", lambda: context.put(root, files))
        timed("  again, nothing changed", lambda: context.put(root, files))


def submission(wd: Path, machine: dict[str, Any], name: str, tasks: int, resources: dict[str, Any], **more: Any) -> Any:
    from pilotfish.launcher.description.submission import parse_submission
    from pilotfish.launcher.submission.placement import Placement

    (wd / "laptop" / name).mkdir()
    described = [
        {"command": f"echo {number} >out", "task_work_path": f"t{number}", "backward_files": ["out"]}
        for number in range(tasks)
    ]
    given = {"work_base": name, "machine": machine, "resources": resources, "task_list": described, **more}
    return Placement(parse_submission(given))


def poll(jobs: Any) -> None:
    """One look at all jobs, and how many commands it took."""
    with jobs.opened() as opened:
        asked = 0
        run = opened.context.run

        def counted(*words: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return run(*words, **options)

        opened.context.run = counted
        ids = [job.id for job in opened.progress.placed()] * 2
        opened.context.run("true")
        asked = 0
        from pilotfish.launcher.machines.registry import build_machine

        timed(f"polling {len(ids)} jobs", lambda: build_machine("Slurm").query(opened.context, ids[:200]))
        print(f"  commands for it: {asked}", flush=True)


if __name__ == "__main__":
    main()
