"""The chaos gate for calls of an executor: function workers, agents, the manager and the client are killed while they run.

The client is a program of its own whose executor has a name: when the client or its manager is killed, the next one resumes the
pilot and finds its calls again. What is promised is checked on what the last client has got, and on what the calls themselves
have written, a line for each execution:

- Each call has its result, or a LostCallError that says why; at most as many are lost as function workers were killed, and none
  of those that may be tried again.
- A call is executed more than once only if its function worker or agent was killed, or ended with a manager that was.

test_chaos_calls.py runs a small round. `make chaos` runs a large one; alone: chaos_calls.py [CALLS [SEED [FAULTS]]].
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Set
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from pilotfish import Executor
from pilotfish.api.executor import LostCallError

NAME = "chaos"
OPTIONS = ("--nodes", "2,2", "--kill-grace", "1", "--crash-limit", "1000")
CALL_S = 0.001
AGAIN = 75
"""The client's exit code when it has lost the pilot, which it says with an exception: it may be started anew."""
PATIENCE_S = 600


def note(number: int, log: str) -> int:
    """A call."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d %d %d\n" % (number, os.getpid(), os.getppid()))
    os.close(descriptor)
    time.sleep(CALL_S)
    return 3 * number


def is_safe(number: int) -> bool:
    return number // 50 % 2 == 1


def be_client(wd: str, calls: int, log: str, found: str) -> int:
    """Half of the calls may be tried again. Writes down which have which result."""
    results: list[int | str] = []
    try:
        with Executor(name=NAME, folder=wd, server_args=OPTIONS) as executor:
            both = executor, executor.options(retries=1000)
            futures = [both[is_safe(number)].submit(note, number, log) for number in range(calls)]
            for future in futures:
                try:
                    results.append(future.result(PATIENCE_S))
                except LostCallError as error:
                    results.append(str(error))
    except BrokenExecutor as error:
        print(f"the client ends: {error}", file=sys.stderr)
        return AGAIN
    Path(found).write_text(json.dumps(results))
    return 0


def broken_promises(results: list[int | str], lines: list[str], killed: Set[int], kills: int) -> list[str]:
    """`lines`: of executions; `killed`: processes whose calls may be executed again; `kills`: so many calls may be lost."""
    lost = {number for number, result in enumerate(results) if isinstance(result, str)}
    found = [
        f"call {number} gave {result}"
        for number, result in enumerate(results)
        if number not in lost and result != 3 * number
    ]
    found += [f"call {number} was not tried again: {results[number]}" for number in lost if is_safe(number)]
    if len(lost) > kills:
        found.append(f"{len(lost)} calls are lost, {kills} function workers were killed")
    executions = Counter[int]()
    for line in lines:
        number, pid, parent = map(int, line.split())
        executions[number] += pid not in killed and parent not in killed
    found += [f"call {number} was executed {count} times" for number, count in executions.items() if count > 1]
    found += [f"call {number} was never executed" for number in set(range(len(results))) - executions.keys() - lost]
    return found


class Round:
    """One pilot, one client, and the faults that befall them."""

    def __init__(self, wd: Path, seed: int, calls: int) -> None:
        self.faults: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._calls = calls
        self._log, self._found = wd / "log", wd / "found"
        self._log.touch()
        self._killed: set[int] = {1}
        """Processes whose calls may be executed again. Those of an agent that is gone are the first process's children."""
        self._wd = wd
        self._client = self._new_client()

    def _new_client(self) -> subprocess.Popen[bytes]:
        given = [self._wd, self._calls, self._log, self._found]
        return subprocess.Popen([sys.executable, __file__, "--client", *map(str, given)])

    def run(self, faults: int) -> list[str]:
        """What is not as promised."""
        deadline_s = time.monotonic() + PATIENCE_S
        last = 0
        while (code := self._client.poll()) != 0:
            if code is not None:
                if code not in (AGAIN, -signal.SIGKILL):
                    return [f"the client ended with {code}"]
                self._client = self._new_client()
            if time.monotonic() > deadline_s:
                return [f"the client is not done after {PATIENCE_S} s"]
            size = self._log.stat().st_size
            if self.faults.total() < faults and size > last:  # calls are under way
                last = size
                self._befall()
            time.sleep(self._rng.uniform(0.0, 0.3))  # faults come at random moments; nothing is waited for here
        results, lines = json.loads(self._found.read_text()), self._log.read_text().splitlines()
        return broken_promises(results, lines, self._killed, self.faults["function_worker"])

    def _befall(self) -> None:
        kill = self._rng.choice([self._kill_function_worker, self._kill_agent, self._kill_manager, self._kill_client])
        with suppress(psutil.NoSuchProcess):  # whatever it is about may end at any moment
            if kill():
                self.faults[kill.__name__.removeprefix("_kill_")] += 1

    def _kill_function_worker(self) -> bool:
        workers = [process for agent in self._agents() for process in agent.children(recursive=True)]
        return self._kill_one_of([process for process in workers if "functions/worker.py" in " ".join(_words(process))])

    def _kill_agent(self) -> bool:
        """One process of it, which is the end of all of it."""
        agents = self._agents()
        if not agents:
            return False
        agent = self._rng.choice(agents)
        agent.suspend()  # so that no worker process is missed that it starts meanwhile
        self._kill_one_of(self._excuse(agent))
        agent.resume()
        return True

    def _excuse(self, agent: psutil.Process) -> list[psutil.Process]:
        """It is about to end, and what it has not told anybody is made again; returns its processes."""
        processes = [agent, *(each for each in agent.children() if "agent" in _words(each))]
        self._killed |= {process.pid for process in processes}
        return processes

    def _kill_manager(self) -> bool:
        children = psutil.Process(self._client.pid).children()
        self._excuse_all()
        return self._kill_one_of([process for process in children if "service" in _words(process)])

    def _kill_client(self) -> bool:
        self._excuse_all()
        self._client.kill()
        self._client.wait()
        return True

    def _excuse_all(self) -> None:
        """An executor's own pilot ends with it, and the executor with its pilot."""
        for agent in self._agents():
            with suppress(psutil.NoSuchProcess):
                self._excuse(agent)

    def _kill_one_of(self, processes: list[psutil.Process]) -> bool:
        if not processes:
            return False
        victim = self._rng.choice(processes)
        self._killed.add(victim.pid)
        victim.kill()
        return True

    def _agents(self) -> list[psutil.Process]:
        """Of this pilot, by what their command line names; their worker processes have the same."""
        found = {}
        for process in psutil.process_iter(["ppid"]):
            words = _words(process)
            if "agent" in words and any(word.startswith(str(self._wd)) for word in words):
                found[process.pid] = process
        return [process for process in found.values() if process.info["ppid"] not in found]

    def end(self) -> None:
        """The pilot ends with its client."""
        self._client.kill()
        self._client.wait()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def main() -> int:
    calls, seed, faults = [*map(int, sys.argv[1:]), *(20_000, 1, 40)[len(sys.argv) - 1 :]]
    wd = Path(tempfile.mkdtemp(prefix="chaos-calls-"))
    begin_s = time.monotonic()
    chaos = Round(wd, seed, calls)
    try:
        violations = chaos.run(faults)
    finally:
        chaos.end()
    befell = ", ".join(f"{kind} {count}" for kind, count in sorted(chaos.faults.items()))
    print(
        f"{calls} calls, seed {seed}: killed: {befell}; {len(violations)} violations, {time.monotonic() - begin_s:.0f} s"
    )
    for violation in violations[:10]:
        print(f"  {violation} (see {wd})")
    if not violations:
        shutil.rmtree(wd, ignore_errors=True)
    return 1 if violations else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        sys.exit(be_client(sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
    sys.exit(main())
