"""The chaos gate: a pilot works while processes are killed and stopped and the clock is set; nothing may be seen of it.

A `Round` is one pilot on two nodes of this host. Its faults and their moments are drawn from a seed. What is promised is
checked on what the tasks themselves have written, which is the start and the end of each execution and the worker process
that ran it:

- A task is executed more than once only if its agent died or was given up. Agents of this host are never given up for
  silence; in some rounds agents are started as on other hosts, and there those may be that we stopped. So of the executions
  of a task at most one is by an agent that is neither; and that one has an end.
- No two executions of a task overlap, unless the agent of the first was given up.
- Nothing acknowledged is lost: each task and each job is in the report, once.
- No healthy task fails: each job has succeeded, since a task cannot fail by itself here.

test_chaos.py runs a few small rounds. `make chaos CHAOS="ROUNDS SEED TASKS --jobs 2"` runs many large ones.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from real_pilot import Execution, Pilot, Work, can_fake_clock, faked_clock, remote_nodes

NODE_LOST_S = 1.2
OPTIONS = ("--nodes", "2,3", "--node-lost", str(NODE_LOST_S), "--kill-grace", "1", "--debug-checks", "--id", "p")
# A task that happens to be killed with its agent again and again is as healthy as the others.
NO_CRASH_LIMIT = ("--crash-limit", "1000")
REMOTE_ROUNDS = 0.3
"""How many rounds have agents as on other hosts, at which the manager cannot look."""
SMALL_ROUND = 130
TASKS_OF_A_FAULT = 250
LEAST_FAULTS = 5
PATIENCE_S = 600
SHOWN_VIOLATIONS = 20


@dataclass
class Outcome:
    """What happened in one round, or in several."""

    name: str
    rounds: int = 0
    tasks: int = 0
    executions: int = 0
    of_lost_agents: int = 0
    """Executions by agents that were killed or may have been given up, then or later."""
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.rounds += other.rounds
        self.tasks += other.tasks
        self.executions += other.executions
        self.of_lost_agents += other.of_lost_agents
        self.seconds += other.seconds
        self.faults += other.faults
        self.violations += other.violations

    def line(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.name}: {self.rounds} rounds, {self.tasks} tasks, {self.executions} executions "
            f"({self.executions - self.tasks} repeated, {self.of_lost_agents} by agents that were lost), "
            f"{self.faults.total()} faults ({faults}), {len(self.violations)} violations, {self.seconds:.0f} s"
        )


@dataclass
class Excuses:
    """Why a task may have been executed more than once."""

    killed: Set[int] = frozenset()
    """Processes of agents that were killed."""
    given_up: Set[int] = frozenset()
    """Processes of agents that may have been given up without a look at them: what they ran may go on beside the next."""
    losses: int = 0
    """How often an agent was lost: so often may a task of several nodes be stopped where it runs, and run again."""

    def cover(self, run: Execution) -> bool:
        return run.worker in self.killed or run.worker in self.given_up


def broken_promises(
    accepted: Mapping[str, int], executions: Mapping[str, Sequence[Execution]], endings: Counter[str], excuses: Excuses
) -> list[str]:
    """What is not as it must be with these jobs and their numbers of tasks; `spread...` are jobs on several nodes."""
    found = []
    tasks = {f"{job}:{index}" for job, count in accepted.items() for index in range(count)}
    known = tasks | accepted.keys()
    for name in sorted(known | endings.keys()):
        if endings[name] != (name in known):
            found.append(f"{name} is in the report {endings[name]} times instead of {int(name in known)}")
    for name in sorted(tasks | executions.keys()):
        runs = executions.get(name, [])
        healthy = [run for run in runs if not excuses.cover(run)]
        again = excuses.losses if name.startswith("spread") else 0
        story = f"{name} was run {', '.join(map(str, runs)) or 'never'}"
        if len(healthy) > 1 + again:
            found.append(f"{story}: more than once by agents that live")
        if sum(not run.has_ended for run in healthy) > again or not any(run.has_ended for run in runs):
            found.append(f"{story}: not to its end")
        if any(run.is_overlapped and run.worker not in excuses.given_up for run in runs):
            found.append(f"{story}: two at a time")
    return found


class Round:
    """One pilot, the faults that befall it, and the work it has accepted."""

    def __init__(self, wd: Path, seed: int, tasks: int = SMALL_ROUND) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.work = Work(wd)
        self.accepted: dict[str, int] = {}
        """Jobs that were acknowledged, with how many tasks each has."""
        self.told: list[str] = []
        self.killed = {1}
        """The processes of agents that were killed. A task whose worker was gone at once is the first process's."""
        self.given_up: set[int] = set()
        self.losses = 0
        self.is_remote = self.rng.random() < REMOTE_ROUNDS
        self._faults = max(LEAST_FAULTS, tasks // TASKS_OF_A_FAULT)
        self._unsubmitted, self._submissions = tasks, 1 + self._faults // 2
        self.clock: Path | None
        self.clock, environ = faked_clock(wd) if can_fake_clock() else (None, {**os.environ})
        options = [*OPTIONS, *NO_CRASH_LIMIT]
        if self.is_remote:
            starter, variables = remote_nodes(wd)
            options += starter
            environ["PATH"] = variables["PATH"]
        self.pilot = Pilot(wd, *options, environ=environ, ready=self.rng.random() < 0.5)
        if not (self.pilot.aux / "connection.json").exists():
            self._resume_when_there_is_something()

    def run(self) -> Outcome:
        started = time.monotonic()
        self.submit()
        for number in range(self._faults):
            self.pause(0, 0.7)
            if number % 2:
                self.submit()
            self.befall()
        client = self.pilot.client()
        states = client.wait4(list(self.accepted), PATIENCE_S)
        client.cleanup()
        code = self.pilot.finish()
        violations = [f"the pilot ended with {code}"] if code else []
        violations += [f"{job} is {state}" for job, state in states.items() if state != "SUCCEED"]
        executions = self.work.executions()
        violations += broken_promises(self.accepted, executions, self.pilot.endings(), self._excuses())
        return Outcome(
            f"seed {self.seed}{' (remote)' * self.is_remote}",
            rounds=1,
            tasks=sum(self.accepted.values()),
            executions=sum(len(each) for each in executions.values()),
            of_lost_agents=sum(self._excuses().cover(run) for runs in executions.values() for run in runs),
            seconds=time.monotonic() - started,
            faults=Counter(self.told),
            violations=violations,
        )

    def _excuses(self) -> Excuses:
        return Excuses(self.killed, self.given_up | (self.killed if self.is_remote else set()), self.losses)

    def story(self) -> str:
        """What was done, and what the manager has noticed of it."""
        log = (self.pilot.aux / "service.log").read_text().splitlines()
        noticed = (line for line in log if "agent." in line or "service " in line)
        return "\n".join([f"seed {self.seed}: {self.told}; killed: {sorted(self.killed)}", *noticed])

    def pause(self, least_s: float, most_s: float) -> None:
        """Faults come at random moments; nothing is waited for here."""
        time.sleep(self.rng.uniform(least_s, most_s))

    def submit(self) -> None:
        """An equal part of all tasks: most are short, some outlive a fault, some take two nodes."""
        rng, number = self.rng, self._submissions
        size = self._unsubmitted // self._submissions
        self._unsubmitted -= size
        self._submissions -= 1
        sizes = {f"long{number}": (rng.randrange(1, 4), 1.5)}
        if rng.random() < 0.6:
            sizes[f"spread{number}"] = (rng.randrange(1, 3), 0.7)
        sizes[f"short{number}"] = (size - sum(count for count, _ in sizes.values()), rng.choice([0, 0.02]))
        jobs = []
        for name, (count, seconds) in sizes.items():
            need: dict[str, Any] = {"numNodes": {"exact": 2}} if name.startswith("spread") else {}
            jobs.append(self.work.job(name, count, seconds=seconds, numCores={"exact": 1}, **need))
        client = self.pilot.client()
        client.send_request({"request": "submit", "jobs": jobs})
        client.cleanup()
        self.accepted |= {name: count for name, (count, _) in sizes.items()}

    def befall(self) -> None:
        """One fault."""
        faults: list[Callable[[], None]] = [self.kill, self.kill_early, self.stop, self.stop, self.stop_and_kill]
        faults += [self.kill_agent, self.kill_everything]
        if self.clock is not None:
            faults.append(self.set_clock)
        fault = self.rng.choice(faults)
        self.told.append(fault.__name__)
        fault()

    def kill(self) -> None:
        self.pilot.kill()
        self.pause(0, 0.3)
        self.pilot.resume()

    def kill_early(self) -> None:
        """Again and again, before the manager is ready or its agents have reported."""
        self.pilot.kill()
        for _ in range(self.rng.randrange(1, 4)):
            self.pilot.resume(is_awaited=self.rng.random() < 0.5)
            self.pause(0, 0.6)
            self.pilot.kill()
        self.pilot.resume()

    def _resume_when_there_is_something(self) -> None:
        """The first manager is killed at a random moment: before it has a journal there is nothing to be resumed."""
        deadline = time.monotonic() + 60
        while not (self.pilot.aux / "connection.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.pause(0, 0.1)
        self.pilot.kill()
        self.pilot.resume()

    def kill_agent(self) -> None:
        """One process of it, which is the end of all of it."""
        agents = self.pilot.agents()
        if agents:
            self._kill_of(self.rng.choice(agents), is_whole=False)

    def kill_everything(self) -> None:
        """Manager, agents and workers, as when the machine is gone."""
        self.pilot.kill()
        for agent in self.pilot.agents():
            self._kill_of(agent, is_whole=True)
        self.pause(0, 0.3)
        self.pilot.resume()

    def _kill_of(self, agent: psutil.Process, is_whole: bool) -> None:
        """Stopped first, so that no worker is missed that it starts meanwhile."""
        with suppress(psutil.NoSuchProcess):
            agent.suspend()
            processes = [agent, *agent.children()]
            self.killed |= {each.pid for each in processes}
            self.losses += 1
            victims = processes if is_whole else [self.rng.choice(processes)]
            self._signal(victims, signal.SIGKILL)
            self._signal([agent], signal.SIGCONT)

    def stop(self) -> None:
        """Some processes for some time: the manager, agents, worker processes, any of them."""
        stopped = self._some_processes()
        self._stop(stopped)
        self.pause(NODE_LOST_S, 2 * NODE_LOST_S)
        self.rng.shuffle(stopped)
        self._signal(stopped, signal.SIGCONT)

    def stop_and_kill(self) -> None:
        """The manager is killed and resumed while some of the others are stopped."""
        stopped = [each for each in self._some_processes() if each.pid != self.pilot.process.pid]
        self._stop(stopped)
        self.kill()
        self.pause(NODE_LOST_S, 1.5 * NODE_LOST_S)
        self._signal(stopped, signal.SIGCONT)

    def _stop(self, processes: Sequence[psutil.Process]) -> None:
        """An agent that the manager cannot look at is given up when it is silent for so long."""
        for agent in self.pilot.agents():
            if self.is_remote and agent in processes:
                with suppress(psutil.NoSuchProcess):
                    self.given_up |= {agent.pid, *(each.pid for each in agent.children())}
                    self.losses += 1
        self._signal(processes, signal.SIGSTOP)

    def _some_processes(self) -> list[psutil.Process]:
        agents = self.pilot.agents()
        everybody = [psutil.Process(self.pilot.process.pid), *agents]
        for agent in agents:
            with suppress(psutil.NoSuchProcess):
                everybody += agent.children()
        return self.rng.sample(everybody, self.rng.randrange(1, len(everybody) + 1))

    @staticmethod
    def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
        """Those of killed agents may be gone by themselves."""
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def set_clock(self) -> None:
        assert self.clock is not None
        self.clock.write_text(self.rng.choice(["+3600", "-3600", "+20", "-20", "+0"]))

    def end(self) -> None:
        """Leave no process behind, whatever has happened."""
        self.pilot.kill()
        for agent in self.pilot.agents():
            self._kill_of(agent, is_whole=True)


def play(seed: int, tasks: int, folder: Path, last_s: float) -> Outcome | None:
    """One round in a folder of its own below this one, which stays if there was a violation; none after `last_s`."""
    if time.monotonic() > last_s:
        return None
    wd = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=folder))
    chaos = Round(wd, seed, tasks)
    try:
        outcome = chaos.run()
    except Exception as error:
        outcome = Outcome(f"seed {seed}", rounds=1, tasks=tasks, faults=Counter(chaos.told))
        outcome.violations.append(f"the round broke off: {type(error).__name__}: {error}")
    finally:
        chaos.end()
    if outcome.violations:
        (wd / "story").write_text("\n".join([*outcome.violations, chaos.story(), ""]))
        outcome.violations[0] += f" (see {wd})"
    else:
        shutil.rmtree(wd, ignore_errors=True)
    return outcome


def write_down(text: str) -> None:
    """... also in the file that PILOTFISH_TEST_CHAOS_SUMMARY names."""
    print(text, flush=True)
    if summary := os.environ.get("PILOTFISH_TEST_CHAOS_SUMMARY"):
        with open(summary, "a") as file:
            file.write(f"{text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Rounds of chaos, a line for each, one for all; 1 if a promise was broken."
    )
    parser.add_argument("rounds", type=int, help="how many")
    parser.add_argument("seed", type=int, nargs="?", default=1, help="seed of the first; others count up (default: 1)")
    parser.add_argument("tasks", type=int, nargs="?", default=3000, help="tasks in each round (default: 3000)")
    parser.add_argument("--jobs", type=int, default=1, help="how many rounds at a time (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round later than that")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where rounds have their folders"
    )
    options = parser.parse_args()
    total = Outcome("total")
    last_s = time.monotonic() + 60 * options.minutes
    with ProcessPoolExecutor(options.jobs) as pool:
        seeds = range(options.seed, options.seed + options.rounds)
        rounds = [pool.submit(play, seed, options.tasks, options.folder, last_s) for seed in seeds]
        for future in as_completed(rounds):
            if outcome := future.result():
                total.add(outcome)
                write_down("\n  ".join([outcome.line(), *outcome.violations[:SHOWN_VIOLATIONS]]))
    write_down(total.line())
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
