"""Makes the pictures of `pilotfish report` in this folder: the page as Chromium shows it, and a Gantt chart.

The run is made up: 600 simulations on four nodes, one of which is lost. Needs `chromium` and `chromium-driver`.

python docs/pictures/report.py
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "tests"))

from browser import browser  # noqa: E402
from past_run import Cores, PastRun  # noqa: E402

from pilotfish.api.report import gantt, page  # noqa: E402
from pilotfish.api.report.command import find_runs  # noqa: E402
from pilotfish.api.report.reading import read_runs  # noqa: E402
from pilotfish.api.report.record import Record  # noqa: E402

NODES = ("cn01", "cn02", "cn03", "cn04")
CORES = 16
LOST_S = 165.0
"""When cn03 is lost."""


def main() -> None:
    record = made_up(random.Random(4), simulations=600)
    (FOLDER / "gantt.svg").write_text(gantt.draw("gantt", made_up(random.Random(4), simulations=150)), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, browser() as window:
        path = Path(folder) / "report.html"
        path.write_text(page.render(record), encoding="utf-8")
        for name, width, height, dark in (("report", 1280, 1440, False), ("report-phone", 390, 844, True)):
            window.look(path, width, height, dark)
            (FOLDER / f"{name}.png").write_bytes(window.picture())


class Cluster:
    """Since when each core is free. Tasks take the ones that are free first."""

    def __init__(self) -> None:
        self.free_s = {(node, core): 6 + 0.8 * number for number, node in enumerate(NODES) for core in range(CORES)}

    def take(self, count: int) -> tuple[str, list[int], float]:
        """A node that has as many cores soonest, these cores, and when they are free."""

        def soonest(node: str) -> list[int]:
            return sorted(range(CORES), key=lambda core: self.free_s[node, core])[:count]

        def ready_s(node: str) -> float:
            return max(self.free_s[node, core] for core in soonest(node))

        node = min(NODES, key=lambda node: ready_s(node) if node != "cn03" or ready_s(node) < LOST_S else 1e9)
        return node, soonest(node), ready_s(node)

    def keep(self, node: str, cores: list[int], until_s: float) -> None:
        self.free_s.update({(node, core): until_s for core in cores})


def made_up(draw: random.Random, simulations: int) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        with PastRun(Path(folder), dict.fromkeys(NODES, CORES), "reactor-sweep", memory_gib=64) as run:
            run.job("prepare", cores=4, memory_mib=8192, at_s=0.5)
            run.job("simulate", tasks=simulations, memory_mib=2048, at_s=0.5)
            run.job("analyse", tasks=simulations // 4, cores=2, at_s=0.5)
            todo = [("prepare", 4, 14.0)]
            todo += [(f"simulate:{number}", 1, draw.lognormvariate(3.4, 0.55)) for number in range(simulations)]
            todo += [(f"analyse:{number}", 2, draw.lognormvariate(2.8, 0.4)) for number in range(simulations // 4)]
            run.close(run_all(run, draw, todo) + 0.3)
        Path(folder, "simulate.err").write_text(
            "step 4110: residual 3.1e+04\nstep 4111: residual nan\nno convergence\n"
        )
        return read_runs(find_runs([str(run.folder)], Path(folder)))


def run_all(run: PastRun, draw: random.Random, todo: list[tuple[str, int, float]]) -> float:
    """Every task in turn; what is on cn03 when that is lost comes again. When the last one ended."""
    cluster, ends = Cluster(), list[tuple[float, str, Cores, float, int, int]]()
    attempts: dict[str, int] = {}
    for name, count, seconds in todo:
        node, cores, free_s = cluster.take(count)
        began_s = free_s + 0.05 * draw.random()
        attempts[name] = attempts.get(name, 0) + 1
        if node == "cn03" and began_s + seconds > LOST_S:
            run.lost(name, {node: cores}, began_s, LOST_S, "the agent of cn03 was lost")
            cluster.keep(node, cores, 1e9)
            todo.append((name, count, seconds))
            continue
        code = -9 if draw.random() < 0.012 else 1 if draw.random() < 0.02 else 0
        code = code if name.startswith("simulate") else 0
        ends.append((began_s + seconds * (0.2 if code == 1 else 1), name, {node: cores}, began_s, code, attempts[name]))
        cluster.keep(node, cores, ends[-1][0])
    for ended_s, name, where, began_s, code, tries in sorted(ends, key=lambda end: end[:2]):
        message = "stopped: it used 2.0 GiB, more than its 2 GiB" if code == -9 else ""
        rss_mib = 2040 if code == -9 else min(1980, int(draw.gauss(1100, 250))) if "sim" in name else 500
        used_s = (ended_s - began_s) * draw.uniform(0.7, 0.98) * sum(map(len, where.values()))
        run.task(name, where, began_s, ended_s, code, tries, message, cpu_s=used_s, rss_mib=rss_mib)
    run.leave("cn03", LOST_S + 5)
    return max(ends)[0]


if __name__ == "__main__":
    main()
