"""How long agents take to come where the starter works node by node: a real manager, a slow `ssh`, simulated agents.

python tests/benchmarks/starts.py [NODES] [SECONDS]

It tells what bounding the starts under way costs. What a real ssh costs beside (here 70 ms of CPU time each) is not in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scale
import simulated_agents

from pilotfish.pilot.wire import connection

_STARTER = """\
for word in "$@"; do
    case "$last" in --connect) file=$word ;; --node) node=$word ;; --agent-id) agent=$word ;; esac
    last=$word
done
sleep {seconds}
echo "$node $agent $file" >{pipe}
exec sleep 1000
"""


def simulate(pipe: Path) -> None:
    """Be the agents that are named in the pipe."""
    crowd: simulated_agents.Agents | None = None
    with open(os.open(pipe, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as file:
        rest = b""
        while True:
            *lines, rest = (rest + (file.read(65_536) or b"")).split(b"\n")
            for line in lines:
                node, agent_id, path = line.decode().split()
                crowd = crowd or simulated_agents.Agents(connection.read(Path(path)), 1.0)
                crowd.join(node, agent_id)
            if crowd is None:
                time.sleep(0.01)
            else:
                crowd.turn()


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    folder = Path(tempfile.mkdtemp(prefix="pf-starts-"))
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    simulator = subprocess.Popen([sys.executable, __file__, "--simulate", str(pipe)])
    try:
        with scale.SimulatedPilot(nodes, 1.0, "ssh", _STARTER.format(seconds=seconds, pipe=pipe)) as pilot:
            cpu_s = pilot.cpu_s()[0]
            print(
                f"{nodes} nodes, {seconds:g} s each: all ready after {pilot.start_s:.1f} s; manager's CPU {cpu_s:.1f} s"
            )
            for starter in pilot.manager.children():
                with_sleep = [starter, *starter.children()]
                for process in with_sleep:
                    process.kill()
    finally:
        simulator.kill()
        simulator.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--simulate"]:
        simulate(Path(sys.argv[2]))
    else:
        main()
