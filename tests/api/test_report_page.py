"""The page of `pilotfish report --html`: what it says, that it needs nothing else, and what its pictures are made from."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from past_run import PastRun
from patience import PATIENCE_S

from pilotfish.api.report import charts, page, summary, timeline
from pilotfish.api.report.command import find_runs
from pilotfish.api.report.reading import read_runs
from pilotfish.api.report.record import Record
from pilotfish.pilot.model.job_spec import Execution, JobSpec


def record_of(wd: Path, *runs: str) -> Record:
    return read_runs(find_runs(runs or ["last"], wd))


def data_of(html: str) -> dict[str, object]:
    """What the page's script is given."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    found: dict[str, object] = json.loads(text)
    return found


class Text(HTMLParser):
    """The text of each section, by its id; elements that need an end have one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.links: list[str] = []
        self._section = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "section":
            self._section = found["id"] or ""
        if tag not in ("meta", "path", "rect"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """It is closed already."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect"):
            assert self._open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self._section and text.strip():
            before = self.sections.get(self._section, "")
            self.sections[self._section] = f"{before} {text.strip()}".strip()


@pytest.fixture
def run(wd: Path) -> PastRun:
    """Ten seconds on two nodes, one of which left after five."""
    with PastRun(wd, {"n1": 2, "n2": 2}) as made:
        made.job("sim", tasks=5, memory_mib=100)
        made.job("sum", cores=2, at_s=1)
        made.task("sim:0", {"n1": [0]}, 1, 3, cpu_s=1.5, rss_mib=40)
        made.task("sim:1", {"n1": [1]}, 1, 4, code=3, rss_mib=99)
        made.task("sim:2", {"n2": [0]}, 1, 2)
        made.lost("sim:3", {"n2": [1]}, 1, 5, "the agent of n2 was lost")
        made.leave("n2", 5)
        made.task("sim:3", {"n1": [0]}, 5, 6, attempts=2)
        made.task("sum", {"n1": [0, 1]}, 6, 8)
        made.close(10)
    (wd / "sim.err").write_text("reading\n<script>alert(1)</script> & no such file\n")
    return made


def test_each_section_says_in_words_what_there_is_to_know(run: PastRun) -> None:
    text = Text(page.render(record_of(run.wd))).sections
    assert list(text) == [
        *("timeline", "over-time", "times", "failed", "slowest", "jobs", "memory", "attempts", "nodes"),
    ]
    assert "1.5 of 4 cores in use on average, 4 at most" in text["over-time"]
    assert "median 2 s, 95 % within 3 s, at most 3 s" in text["times"]
    assert "failed exit code 3 1 sim:1" in text["failed"]
    assert "sim:1 failed: exit code 3 after 3 s on n1" in text["failed"]
    assert "<script>alert(1)</script> & no such file" in text["failed"]
    assert "sim:1 3 s 0 s 99 MiB n1 failed" in text["slowest"]
    assert "sim 4 1 2 s 7 core-s sum 1 0 2 s 4 core-s" in text["jobs"]
    assert "100 MiB 4 40 MiB 99 MiB 99 MiB 99 %" in text["memory"]
    assert "Attempts that came to nothing: 1, 4 core-s lost" in text["attempts"]
    assert "sim:3 n2 after 5 s 4 core-s the agent of n2 was lost" in text["attempts"]
    assert "n2 2 1 0 10 % left after 5 s" in text["nodes"]


def test_curves_reach_from_the_begin_to_the_end(run: PastRun) -> None:
    """n2 left in the middle: from there on two of four cores are available. Nothing ran in the last two of ten seconds.

    Cores of an attempt that was lost were in use.
    """
    html = page.render(record_of(run.wd))
    (busy, _, _) = re.findall(r'data-values="([^"]*)".*?viewBox="0 0 (\d+) 100"', html)
    values = [float(value) for value in busy[0].split(",")]
    assert (len(values), busy[1]) == (300, "300")
    assert [values[at] for at in (15, 45, 75, 105, 165, 210, 255)] == [0, 4, 3, 2, 1, 2, 0]
    assert '<path class="there open" d="M0 100V0.0H150V50.0H300"/>' in html


def test_the_page_needs_nothing_but_itself(run: PastRun) -> None:
    """No address of anything, and a policy that forbids to fetch it."""
    html = page.render(record_of(run.wd))
    assert all(link.startswith("#") for link in Text(html).links)
    assert not re.findall(r"https?://|url\(|@import", html.replace("http://www.w3.org/2000/svg", ""))
    assert "default-src 'none'" in html


def test_nothing_that_tasks_are_called_or_say_becomes_a_part_of_the_page(wd: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>{{css}}"
    with PastRun(wd, {"<b>n1": 1}) as run:
        run.submit(JobSpec(name, Execution(exec="x")))
        run.task(name, {"<b>n1": [0]}, 1, 2, code=1, message="<i>why</i>")
        run.close(3)
    html = page.render(record_of(wd))
    found = Text(html)
    assert all(link.startswith("#") for link in found.links)
    assert f"{name} failed: <i>why</i> after 1 s on <b>n1" in found.sections["failed"]
    assert data_of(html)["names"] == {"0": name}


def test_few_tasks_are_bars_with_lost_attempts_and_times_of_absence(run: PastRun) -> None:
    found = data_of(page.render(record_of(run.wd)))
    assert found["rows"] == [["n1:0", "n1"], ["n1:1", "n1"], ["n2:0", "n2"], ["n2:1", "n2"]]
    names = found["names"]
    assert isinstance(names, dict)
    assert isinstance(found["bars"], list)
    bars = [(names[str(number)], row, start, length, kind) for row, start, length, kind, number in found["bars"]]
    assert bars == [
        ("sim:0", 0, 1, 2, 0),
        ("sim:1", 1, 1, 3, 1),
        ("sim:2", 2, 1, 1, 0),
        ("sim:3", 0, 5, 1, 0),
        ("sum", 0, 6, 2, 0),
        ("sum", 1, 6, 2, 0),
        ("sim:3", 3, 1, 4, 2),
    ]
    assert found["away"] == [[2, 5, 5], [3, 5, 5]]


def test_many_tasks_are_columns_and_no_larger_a_page(wd: Path) -> None:
    """4,000 tasks, one after the other on two cores; those of the second one fail."""
    with PastRun(wd, {"n1": 2}) as run:
        run.job("a", tasks=4000)
        for number in range(4000):
            run.task(f"a:{number}", {"n1": [number % 2]}, number // 2, number // 2 + 1, code=number % 2)
        run.close(2000)
    html = page.render(record_of(wd))
    found = data_of(html)
    assert found["bars"] is None
    busy, bad = (base64.b64decode(str(found[name])) for name in ("busy", "bad"))
    assert busy == bytes([254]) * 1200
    assert bad == bytes(600) + bytes([254]) * 600
    assert len(html) < 100_000


def test_a_run_without_an_end_or_without_tasks_is_a_page_too(wd: Path) -> None:
    with PastRun(wd, {"n1": 1}) as run:
        run.job("a", tasks=3)
    text = Text(page.render(record_of(wd))).sections
    assert text["timeline"] == "Timeline No task has ended."
    assert "at most 3 tasks waited at a time" in text["over-time"]


def test_several_pilots_are_one_page(wd: Path) -> None:
    for name in ("one", "two"):
        with PastRun(wd, {f"n-{name}": 1}, name) as run:
            run.job(f"job-{name}", tasks=1)
            run.task(f"job-{name}:0", {f"n-{name}": [0]}, 1, 2)
            run.close(3)
    html = page.render(record_of(wd, "one", "two"))
    assert "<h1>one, two</h1>" in html
    assert data_of(html)["rows"] == [["n-one:0", "n-one"], ["n-two:0", "n-two"]]
    assert "one ended" in Text(html).sections["runs"]


def test_nodes_of_other_allocations_are_told_with_when_they_came(wd: Path) -> None:
    """n2 joined after 4 of 10 seconds, for which it was then busy half the time."""
    with PastRun(wd, {"n1": 1}) as run:
        run.job("a", at_s=4)
        run.join("n2", 1, joined=True)
        run.task("a", {"n2": [0]}, 5, 8)
        run.close(10)
    record = record_of(wd)
    assert "n2 1 1 0 50 % joined, came after 4 s" in Text(page.render(record)).sections["nodes"]
    assert data_of(page.render(record))["away"] == [[1, 0, 4]]


def test_a_real_run_ends_as_a_page(wd: Path) -> None:
    """From `pilotfish run` to the file, on the command line."""

    def pilotfish(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pilotfish", *words],
            cwd=wd,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    command = ["sh", "-c", "echo no {a} >&2; exit $(( {a} == 2 ))"]
    pilotfish("run", "--quiet", "--nodes", "2", "--grid", "a=1,2,3", "--output", "out", "--", *command, code=1)
    pilotfish("report", "--html", "run.html")
    text = Text((wd / "run.html").read_text()).sections
    assert "task:1 failed: exit code 1" in text["failed"]
    assert text["failed"].endswith("no 2")
    assert json.loads(pilotfish("report", "stats", "--json"))["total_jobs"] == 3


# --- what pictures are made from ----------------------------------------------------------------------------------------

SPANS = st.lists(st.tuples(st.floats(-5, 25), st.floats(0, 30)), max_size=30)


@given(SPANS)
def test_sums_are_what_adding_column_by_column_gives(spans: list[tuple[float, float]]) -> None:
    axis = timeline.axis_of(0, 20, 8)
    sums = timeline.Sums(axis)
    for from_s, length_s in spans:
        sums.add(0, from_s, from_s + length_s)
    edges = [axis.step_s * column for column in range(9)]
    expected = [
        sum(max(0.0, min(end, from_s + length_s) - max(begin, from_s)) for from_s, length_s in spans) / axis.step_s
        for begin, end in pairwise(edges)
    ]
    assert sums.row(0) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(-5, 25), max_size=30))
def test_steps_are_spans_that_reach_to_the_end(times: list[float]) -> None:
    axis = timeline.axis_of(0, 20, 8)
    steps, spans = timeline.Sums(axis), timeline.Sums(axis)
    steps.add_steps(times, 2.0)
    for time_s in times:
        spans.add(0, time_s, 20, 2.0)
    assert steps.row(0) == pytest.approx(spans.row(0), abs=1e-6)


@given(st.lists(st.floats(1e-5, 1e7), min_size=1, max_size=50))
def test_a_histogram_has_every_number_between_its_edges(numbers: list[float]) -> None:
    found = summary.histogram(numbers)
    assert found is not None
    assert sum(found.counts) == len(numbers)
    assert found.edges[-1] >= max(numbers)
    assert found.max == max(numbers)


def test_rows_are_cores_then_nodes_then_groups_of_nodes(wd: Path) -> None:
    with PastRun(wd, {f"n{number}": 2 for number in range(5)}) as run:
        run.close(1)
    record = record_of(wd)
    assert [row.label for row in timeline.layout(record, 10)[0]][:3] == ["n0:0", "n0:1", "n1:0"]
    assert [row.label for row in timeline.layout(record, 9)[0]] == ["n0", "n1", "n2", "n3", "n4"]
    rows, row_of = timeline.layout(record, 3)
    assert [(row.label, row.cores) for row in rows] == [("n0 … n1", 4), ("n2 … n3", 4), ("n4", 2)]
    assert row_of == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0032, "3.2 ms"),
        (0.41, "0.41 s"),
        (59, "59 s"),
        (59.7, "1 min"),
        (125, "2 min 5 s"),
        (3599.9, "1 h"),
        (4320, "1 h 12 min"),
        (86399, "1 d"),
        (100_000, "1 d 4 h"),
    ],
)
def test_durations_are_what_people_say(value: float, text: str) -> None:
    assert charts.seconds(value) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0, "0 %"),
        (0.0004, "under 0.1 %"),
        (0.026, "2.6 %"),
        (0.5, "50 %"),
        (0.998, "99.8 %"),
        (0.9999, "over 99.9 %"),
        (1, "100 %"),
    ],
)
def test_parts_that_are_not_nothing_and_not_all_do_not_look_so(part: float, text: str) -> None:
    assert charts.percent(part) == text


@pytest.mark.parametrize(
    ("length_s", "marks"),
    [
        (0.05, ["0.00 s", "0.01 s", "0.02 s", "0.03 s", "0.04 s", "0.05 s"]),
        (7, ["0", "2 s", "4 s", "6 s"]),
        (600, ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]),
        (5400, ["0", "15 min", "30 min", "45 min", "1 h", "1:15 h", "1:30 h"]),
        (4 * 86400, ["0", "1 d", "2 d", "3 d", "4 d"]),
    ],
)
def test_marks_of_time_are_round(length_s: float, marks: list[str]) -> None:
    found = timeline.ticks(length_s, 6)
    assert [timeline.tick_text(seconds, found[1]) for seconds in found] == marks
