"""The page of `pilotfish report` in a real browser: drawn at once however large the run, on a desk and on a phone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from browser import PROGRAMS, Browser, browser
from past_run import BEGAN_S, PastRun
from patience import need, wait_until

from pilotfish.api.report import page
from pilotfish.api.report.command import find_runs
from pilotfish.api.report.reading import read_runs
from pilotfish.api.report.record import NodeFacts, Record, RunFacts, Submit
from pilotfish.api.report.tasks import Core, Job, Place
from pilotfish.api.task_records import Batch

WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    need(*PROGRAMS)
    with browser() as opened:
        yield opened


@pytest.fixture
def small(wd: Path) -> Path:
    """The page of a run of four tasks with a long name."""
    with PastRun(wd, {"a-node-with-a-long-name": 2}, "small") as run:
        run.job("simulation-of-everything-with-many-words", tasks=4, memory_mib=50)
        for number in range(4):
            cores = {"a-node-with-a-long-name": [number % 2]}
            run.task(
                f"simulation-of-everything-with-many-words:{number}", cores, 1 + number, 3 + number, code=number // 3
            )
        run.close(8)
    path = wd / "small.html"
    path.write_text(page.render(read_runs(find_runs(["small"], wd))))
    return path


def million() -> Record:
    """A million tasks on 4,096 cores of 64 nodes: one core after the other takes the next."""
    record = Record(runs=[RunFacts("million", Path("/nowhere"), "ended", BEGAN_S, BEGAN_S + 1300, 1_000_000)])
    for node in range(64):
        record.nodes.append(NodeFacts(f"node{node:02}", 64, 0, 0, BEGAN_S, 0.0, False))
        record.cores += [Core(f"node{node:02}", str(core)) for core in range(64)]
    record.tasks.jobs.append(Job("sweep", BEGAN_S, 0, 0))
    for number, core in enumerate(record.cores):
        record.tasks.places.append(Place(((core.node, (core.name,)),), (number,), f"{core.node}[{core.name}]"))
    record.submits.append(Submit(BEGAN_S, 1_000_000))
    draw = random.Random(1)
    count = 4096
    for round_ in range(245):
        size = min(count, 1_000_000 - round_ * count)
        started = [BEGAN_S + round_ * 5 + draw.random() for _ in range(size)]
        batch = SimpleNamespace(
            pos=range(round_ * count, round_ * count + size),
            state=["SUCCEED"] * size,
            scheduled_s=started,
            started_s=started,
            ended_s=[time_s + 4 * draw.random() for time_s in started],
            pid=[1] * size,
            exit_code=[0] * size,
            cpu_s=[1.0] * size,
            max_rss_kib=[1000] * size,
            attempts=[1] * size,
            reason=[""],
        )
        record.tasks.extend(cast(Batch, batch), [0] * size, range(1, size + 1))
    return record


def test_a_million_tasks_are_drawn_in_two_seconds_from_a_small_file(window: Browser, wd: Path) -> None:
    path = wd / "million.html"
    path.write_text(page.render(million()))
    assert path.stat().st_size < 5_000_000
    for width in WIDTHS:
        window.look(path, width)
        assert float(window.run("return document.documentElement.dataset.drawn")) < 2000
        assert window.run("return document.documentElement.scrollWidth") == width
    assert window.errors() == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_and_has_colours_for_each_scheme(window: Browser, small: Path, width: int, dark: bool) -> None:
    window.look(small, width, dark=dark)
    assert window.run("return document.documentElement.scrollWidth") == width
    paper = window.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(16, 20, 25)" if dark else "rgb(252, 252, 251)")
    assert window.picture().startswith(b"\x89PNG")
    assert window.errors() == []


def test_bars_have_the_colour_of_what_became_of_them(window: Browser, small: Path) -> None:
    """The last of four tasks has failed: its bar ends at 6 of 8 seconds, on the second row."""
    window.look(small, 1280)
    script = """
      const canvas = document.querySelector("canvas"), width = canvas.width - 120;
      const at = (part, row) => [...canvas.getContext("2d").getImageData(120 + part * width, row * 18 + 9, 1, 1).data];
      return [at(1.5 / 8, 0), at(5.5 / 8, 1), at(7 / 8, 1)];
    """
    good, bad, idle = window.run(script)
    assert good == [47, 126, 188, 255]
    assert bad == [204, 65, 37, 255]
    assert idle[3] == 0


def test_the_timeline_is_read_with_the_keyboard(window: Browser, small: Path) -> None:
    """Tab reaches it, arrow keys go from task to task, and a line says what is there."""
    window.look(small, 1280)
    focused = "return document.activeElement.tagName"

    def reached() -> bool:
        window.press("Tab")
        return bool(window.run(focused) == "CANVAS")

    wait_until(reached, "Tab never reached the timeline")
    window.press("ArrowRight", "ArrowDown", "ArrowRight")
    said = window.run("return document.querySelector('.tip').textContent")
    assert said == (
        "simulation-of-everything-with-many-words:3 on a-node-with-a-long-name:1: did not succeed, 4.000 s to 6.000 s"
    )


def test_the_first_stop_of_the_keyboard_leads_past_the_head(window: Browser, small: Path) -> None:
    window.look(small, 1280)
    window.press("Tab")
    assert window.run("return document.activeElement.textContent") == "Skip to the report"
    assert window.run("return document.activeElement.getBoundingClientRect().left") > 0
