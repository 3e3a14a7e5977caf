"""The views of `pilotfish report`: exact numbers of runs whose every second is known, and what the original printed."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from past_run import BEGAN_S, PastRun

from pilotfish.api import report_cli
from pilotfish.api.report.command import find_runs
from pilotfish.api.report.reading import read_runs
from pilotfish.pilot.model.errors import LostError, PilotfishError, RefusedError, UsageError
from pilotfish.pilot.model.job_spec import Execution, JobSpec
from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire import codec

Ask = Callable[..., str]


@pytest.fixture
def ask(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`ask("stats", "--json")`: what `pilotfish report` prints in the working folder."""
    monkeypatch.chdir(wd)

    def asked(*words: str) -> str:
        done = CliRunner().invoke(report_cli.report, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return asked


@pytest.fixture
def run(wd: Path) -> PastRun:
    """Two nodes of two cores, 10 s. `a` has three tasks of one core, `b` one of both cores of n1; n2:1 has nothing to do.

    ```
    n1:0  . a0 a0 . b b b b b .      a0 fails
    n1:1  . a1 . .  b b b b b .
    n2:0  . . a2 a2 a2 a2 a2 . . .   its first attempt was lost
    ```
    """
    with PastRun(wd, {"n1": 2, "n2": 2}) as made:
        made.job("a", tasks=3, memory_mib=100)
        made.job("b", cores=2, at_s=1)
        made.lost("a:2", {"n2": [1]}, 1, 1.5)
        made.task("a:1", {"n1": [1]}, 1, 2, cpu_s=0.5)
        made.task("a:0", {"n1": [0]}, 1, 3, code=7, rss_mib=90)
        made.task("a:2", {"n2": [0]}, 2, 7, attempts=2)
        made.task("b", {"n1": [0, 1]}, 4, 9, scheduled_s=3.5)
        made.close(10)
    return made


def values(text: str) -> dict[str, str]:
    """Labels and values of a view as text."""
    pairs = (line.strip().partition(": ") for line in text.splitlines())
    return {label: value.strip() for label, _, value in pairs}


def test_stats_count_every_task_and_the_time_in_which_none_ran(run: PastRun, ask: Ask) -> None:
    """The pilot took 1 s before the first task and 1 s after the last, of 10 s on 4 cores."""
    found = values(ask("stats"))
    assert (found["total jobs"], found["failed jobs"], found["succeeded jobs"]) == ("4", "1", "3")
    assert (found["total cores"], found["total nodes"], found["repeated attempts"]) == ("4", "2", "1")
    assert (found["service runtime"], found["init overhead"]) == ("10.00 secs", "1.00 secs")
    assert (found["total overhead"], found["overhead ratio"]) == ("2.00 secs", "20.0 %")
    assert found["service started"] == str(datetime.fromtimestamp(BEGAN_S))


def test_details_of_stats_say_how_run_times_are_spread(run: PastRun, ask: Ask) -> None:
    (rows,) = [json.loads(ask("stats", "--details", "--json"))["runtime_s"]]
    found = {row["statistic"]: row["seconds"] for row in rows}
    assert (found["min"], found["max"], found["mean"], found["median"]) == (1.0, 5.0, 3.25, 3.5)
    assert (found["median_lo"], found["median_hi"]) == (2.0, 5.0)
    assert found["var"] == pytest.approx(4.25)
    assert found["pstdev"] == pytest.approx(1.785357)


def test_what_never_ran_is_counted_too(wd: Path, ask: Ask) -> None:
    """Of five tasks one was cancelled, two were left out, one has not ended: the counts add up."""
    with PastRun(wd, {"n1": 1}) as run:
        run.job("a", tasks=3)
        run.job("b", tasks=2)
        run.task("a:0", {"n1": [0]}, 1, 2)
        run.not_started("a:1", State.CANCELED, 3)
        run.not_started("b", State.OMITTED, 4, "a did not succeed")
    found = json.loads(ask("stats", "--json"))
    counts = [found[name] for name in ("total_jobs", "succeeded_jobs", "canceled_jobs", "failed_jobs", "jobs_left")]
    assert counts == [5, 1, 1, 2, 1]


def test_jobs_are_a_line_each_in_the_order_of_their_ends(run: PastRun, ask: Ask) -> None:
    first, *rest = ask("jobs").splitlines()
    began, ended = (str(datetime.fromtimestamp(BEGAN_S + at)) for at in (1, 2))
    assert first == f"\ta:1 state SUCCEED run 0:00:01.000000 secs, between {began} - {ended} on nodes n1"
    assert [line.split()[0] for line in rest] == ["a:0", "a:2", "b"]


@pytest.mark.parametrize(
    ("words", "tasks"),
    [
        (["--state", "failed"], ["a:0"]),
        (["--node", "n2"], ["a:2"]),
        (["--node", "n1", "--core", "1"], ["a:1", "b"]),
        (["--core", "0"], ["a:0", "a:2", "b"]),
        (["--sort", "start"], ["a:1", "a:0", "a:2", "b"]),
        (["--sort", "runtime"], ["a:1", "a:0", "a:2", "b"]),
        (["--sort", "name", "--state", "SUCCEED"], ["a:1", "a:2", "b"]),
        (["--sort", "state"], ["a:0", "a:1", "a:2", "b"]),
    ],
)
def test_jobs_are_chosen_and_ordered(run: PastRun, ask: Ask, words: list[str], tasks: list[str]) -> None:
    assert [line.split()[0] for line in ask("jobs", *words).splitlines()] == tasks


def test_a_task_is_told_with_all_that_is_known(run: PastRun, ask: Ask) -> None:
    found = values(ask("job", "a:0"))
    assert (found["run-time (s)"], found["state"]) == ("0:00:02.000000", "FAILED (7)")
    assert (found["nodes"], found["process name"]) == ("{'n1': ['0']}", "sim")
    assert found["in queue (s)"] == str(datetime.fromtimestamp(BEGAN_S))


def test_a_job_with_iterations_is_asked_for_by_one_of_them(run: PastRun) -> None:
    done = CliRunner().invoke(report_cli.report, ["job", "a", "z", "--wd", str(run.wd)])
    assert done.stderr.splitlines() == ["a: it has iterations, name some of them, as a:1", "z: missing job data"]


def test_text_has_the_history_of_each_task(run: PastRun, ask: Ask) -> None:
    block = ask("text").split("\n\n")[1]
    times = [datetime.fromtimestamp(BEGAN_S + at).isoformat() for at in (1, 1, 3)]
    assert block.splitlines()[:5] == [
        "a:0 (FAILED) ",
        *(f"\t{time}: {state}" for time, state in zip(times, ("SCHEDULED", "EXECUTING", "FAILED"), strict=True)),
        "\tallocation: n1[0]",
    ]
    assert f"\twd: {run.wd}\n\trtime: 0:00:02.000000\n\texit_code: 7\n" in block


def test_an_allocation_is_what_ran_on_a_core_in_order_of_starts(run: PastRun, ask: Ask) -> None:
    heading, *lines = ask("allocation", "n1", "0").splitlines()
    assert heading == "jobs launched on n1:0"
    assert [line.split()[0] for line in lines[::2]] == ["a:0", "b"]
    assert lines[3] == "\t\ton nodes {'n1': ['0', '1']}"


def test_rusage_counts_the_idle_time_of_each_core(run: PastRun, ask: Ask) -> None:
    """Of 10 s: n1:0 was busy for 7, n1:1 for 6, n2:0 for 5; n2:1 for none."""
    found = json.loads(ask("rusage", "--details", "--json"))
    assert [(core["node"], core["core"], core["utilization_percent"], core["unused_s"]) for core in found["cores"]] == [
        ("n1", "0", pytest.approx(70), pytest.approx(3)),
        ("n1", "1", pytest.approx(60), pytest.approx(4)),
        ("n2", "0", pytest.approx(50), pytest.approx(5)),
    ]
    assert (found["used_cores"], found["used_core_utilization_percent"]) == (3, pytest.approx(60))
    assert found["core_utilization_percent"] == pytest.approx(45)
    assert "WARNING: 1 cores have not been used by any job" in found["problems"]


@pytest.mark.parametrize(
    ("options", "percents"),
    [
        (["--wo-init"], [7 / 8, 6 / 8, 5 / 8]),
        (["--until-last-job"], [7 / 9, 6 / 9, 5 / 7]),
        (["--wo-init", "--until-last-job"], [7 / 8, 6 / 8, 5 / 6]),
    ],
)
def test_rusage_may_leave_out_what_was_before_and_after(
    run: PastRun, ask: Ask, options: list[str], percents: list[float]
) -> None:
    found = json.loads(ask("rusage", "--details", "--json", *options))
    assert [core["utilization_percent"] for core in found["cores"]] == [
        pytest.approx(100 * percent) for percent in percents
    ]


def test_efficiency_does_not_count_what_a_wide_task_makes_others_wait(run: PastRun, ask: Ask) -> None:
    """b could start when a:0 had ended, 1 s before it did; that n1:1 was idle from 2 to 3 is the work's form."""
    found = json.loads(ask("efficiency", "--details", "--json"))
    assert {(core["node"], core["core"]): core["unused_s"] for core in found["cores"]} == {
        ("n1", "0"): pytest.approx(1),
        ("n1", "1"): pytest.approx(1),
        ("n2", "0"): pytest.approx(1),
    }
    assert ask("efficiency-core", "n1", "1").startswith("node n1:1: utilization 87.5%, unused 1.0000 of total 8.0000\n")


def test_a_core_on_which_nothing_ran_has_no_efficiency(run: PastRun, ask: Ask) -> None:
    assert ask("efficiency-core", "n2", "1") == "node n2:1: utilization 0.0%, unused 8.0000 of total 8.0000\n"


def test_launching_costs_what_a_task_and_its_cores_were_ready(run: PastRun, ask: Ask) -> None:
    """b was with its agent at 3.5 and its cores were free at 3: it started at 4."""
    found = json.loads(ask("launch-stats", "--details", "--json"))
    assert {row["task"]: row["start_s"] for row in found["jobs"]} == {"a:1": 0, "a:0": 0, "a:2": 0, "b": 0.5}
    assert (found["total_start_overhead_s"], found["generated_for_total_jobs"]) == (0.5, 4)


def test_measured_times_of_processes_come_first(run: PastRun, ask: Ask) -> None:
    """b was ready at 3.5; its process began at 4.25, and ended 0.5 s before that was seen. An earlier run does not count."""

    def text(at_s: float) -> str:
        return str(datetime.fromtimestamp(BEGAN_S + at_s))

    times = {"b": {"s": text(4.25), "f": text(8.5)}, "a:0": {"s": text(-90), "f": text(-80)}, "zzz": {"s": "?"}}
    (run.wd / "rtimes_n1_2027-01-15_7.log").write_text(json.dumps({"node": "n1", "rt": times}))
    found = json.loads(ask("launch-stats", "--json"))
    assert (found["total_start_overhead_s"], found["total_finish_overhead_s"]) == (0.75, 0.5)
    assert (found["average_real_job_run_time_s"], found["average_qcg_job_run_time_s"]) == (12.25 / 4, 13.5 / 4)
    assert values(ask("job", "b"))["start (real)"] == text(4.25)


def test_a_gantt_chart_has_a_bar_for_each_core_of_each_task(run: PastRun, ask: Ask) -> None:
    ask("gantt", "chart.svg")
    root = ElementTree.parse(run.wd / "chart.svg").getroot()
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "a:1 SUCCEED: 1.000 s on n1:1",
        "a:0 FAILED: 2.000 s on n1:0",
        "a:2 SUCCEED: 5.000 s on n2:0",
        "b SUCCEED: 5.000 s on n1:0",
        "b SUCCEED: 5.000 s on n1:1",
    ]


def test_gaps_are_when_cores_were_idle_between_the_first_start_and_the_last_end(run: PastRun, ask: Ask) -> None:
    rows = list(csv.DictReader(io.StringIO(ask("gantt-gaps", "--csv"))))
    assert [(row["node"], row["core"], float(row["seconds"])) for row in rows] == [
        ("n1", "0", 1.0),
        ("n1", "1", 2.0),
        ("n2", "0", 1.0),
        ("n2", "0", 2.0),
    ]
    assert ask("gantt-gaps").startswith("<svg ")


@pytest.mark.parametrize(("view", "name", "begin"), [("gantt", "a.png", b"\x89PNG"), ("gantt-gaps", "a.pdf", b"%PDF")])
def test_matplotlib_draws_other_pictures(run: PastRun, ask: Ask, view: str, name: str, begin: bytes) -> None:
    ask(view, name)
    assert (run.wd / name).read_bytes().startswith(begin)


def test_a_picture_of_an_unknown_kind_is_refused(run: PastRun, ask: Ask) -> None:
    with pytest.raises(UsageError, match=r"name a file \.svg, \.png or \.pdf"):
        ask("gantt", "a.bmpx")


def test_without_matplotlib_the_error_says_what_to_write(
    run: PastRun, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install matplotlib, or name a file \.svg"):
        ask("gantt", "chart.png")


# --- processes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(run: PastRun) -> PastRun:
    """b was a shell that started `sim` on n1 and, through mpirun's srun and a daemon, on n2."""
    pid = int(json.loads(run.folder.joinpath("jobs.report").read_text().splitlines()[-1])["runtime"]["pid"])
    began = datetime.fromtimestamp(BEGAN_S + 4)

    def process(number: int, name: str, node: str, *line: str, childs: tuple[int, ...] = ()) -> dict[str, object]:
        return {"pid": number, "name": name, "node": node, "cmdline": line, "created": str(began), "childs": childs}

    here = {
        pid: process(pid, "sim", "n1", "sim", "--all", childs=(11, 12)),
        11: process(11, "sim", "n1", "sim", "--part"),
        12: process(12, "srun", "n1", "srun", "orted", "-mca", "ess_base_jobid", "77"),
    }
    there = {
        21: process(21, "orted", "n2", "orted", "-mca", "ess_base_jobid", "77", childs=(22,)),
        22: process(22, "sim", "n2", "sim", "--rest"),
        23: process(23, "orted", "n2", "orted", "-mca", "ess_base_jobid", "78", childs=()),
    }
    for node, pids in (("n1", here), ("n2", there)):
        (run.wd / f"ptrace_{node}_1.log").write_text(json.dumps({"node": node, "pids": pids}))
    (run.wd / "ptrace_n3_1.log").write_text('{"node": "n3", "pi')
    return run


def test_a_tree_has_the_processes_of_the_program_or_all(traced: PastRun, ask: Ask) -> None:
    heading, *lines = ask("tree", "b", "--all").splitlines()
    assert heading.startswith("job b, job process id ")
    shape = [(len(line) - len(line.lstrip()), line.partition(":")[2].split()[0]) for line in lines]
    assert shape == [(2, "sim"), (4, "sim"), (4, "srun"), (6, "orted"), (8, "sim")]
    assert [line.split()[0].partition(":")[2] for line in ask("tree", "b").splitlines()[1:]] == ["sim", "sim", "sim"]


def test_apps_are_the_processes_of_the_program_itself(traced: PastRun, ask: Ask) -> None:
    text = ask("apps", "b")
    assert text.startswith("found 3 target processes\n")
    assert text.count("cmdline: sim --") == 3


def test_without_traces_the_first_process_is_known(run: PastRun, ask: Ask) -> None:
    (row,) = json.loads(ask("tree", "a:0", "--json"))["processes"]
    assert (row["task"], row["level"], row["name"], row["node"]) == ("a:0", 0, "sim", "n1")


# --- forms --------------------------------------------------------------------------------------------------------------

WORDS = {"job": ["a:0"], "allocation": ["n1", "0"], "efficiency-core": ["n1", "0"], "tree": ["b"], "apps": ["b"]}


@pytest.mark.parametrize("view", report_cli.VIEWS)
def test_every_view_is_json_with_a_version_and_csv_with_a_header(run: PastRun, ask: Ask, view: str) -> None:
    words = [view, *WORDS.get(view, [])]
    found = json.loads(ask(*words, "--json"))
    assert (found["version"], found["view"], found["runs"]) == (1, view, ["past"])
    header, *rows = csv.reader(io.StringIO(ask(*words, "--csv")))
    assert rows
    assert all(len(row) == len(header) for row in rows)


def test_a_row_of_a_task_is_the_same_in_json_and_csv(run: PastRun, ask: Ask) -> None:
    task = json.loads(ask("jobs", "--state", "failed", "--json"))["tasks"][0]
    (row,) = csv.DictReader(io.StringIO(ask("jobs", "--state", "failed", "--csv")))
    assert (task["task"], task["exit_code"], task["reason"], task["seconds"]) == ("a:0", 7, "exit code 7", 2.0)
    assert (row["task"], row["exit_code"], row["reason"], row["seconds"]) == ("a:0", "7", "exit code 7", "2.0")
    assert (task["nodes"], row["nodes"]) == ({"n1": ["0"]}, "n1[0]")


def test_a_run_with_nothing_in_it_has_all_views(wd: Path, ask: Ask) -> None:
    with PastRun(wd, {"n1": 1}) as run:
        run.close(1)
    for view in ("stats", "text", "jobs", "launch-stats", "rusage", "gantt", "gantt-gaps", "efficiency"):
        json.loads(ask(view, "--json"))
    assert ask("gantt").startswith("<svg ")


# --- which run ----------------------------------------------------------------------------------------------------------


def test_several_runs_are_looked_at_together(wd: Path, ask: Ask) -> None:
    """What more than one of them has gets the run's name in front."""
    for name, at_s in (("one", 1), ("two", 2)):
        with PastRun(wd, {"n1": 1}, name) as run:
            run.job("a", tasks=1)
            run.task("a:0", {"n1": [0]}, at_s, at_s + 1)
            run.close(9)
    found = json.loads(ask("one", "two", "jobs", "--json"))
    assert found["runs"] == ["one", "two"]
    assert [(task["task"], task["nodes"]) for task in found["tasks"]] == [
        ("one/a:0", {"one/n1": ["0"]}),
        ("two/a:0", {"two/n1": ["0"]}),
    ]
    assert json.loads(ask("one", "one", "stats", "--json"))["total_jobs"] == 1


def test_faults_of_agents_are_those_that_something_followed(wd: Path) -> None:
    """At the end of a run all agents go, which is no fault."""
    with PastRun(wd, {"n1": 1, "n2": 1}) as run:
        run.job("a", tasks=2)
        run.leave("n2", 3)
        run.lost("a:1", {"n2": [0]}, 1, 4)
        run.task("a:0", {"n1": [0]}, 1, 5)
        run.leave("n1", 6)
        run.close(6)
    record = read_runs(find_runs(["last"], wd))
    assert [(fault.node, fault.event) for fault in record.faults][:2] == [
        ("n2", "the node left"),
        ("n2", "its agent was gone"),
    ]
    assert not any(fault.event == "its agent was gone" and fault.node == "n1" for fault in record.faults)
    assert [(lost.task, lost.node, lost.core_seconds) for lost in record.lost] == [("a:1", "n2", 3.0)]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["nobody"], LostError, "there is no run 'nobody'"),
        (["stats", "--sort", "name"], UsageError, "stats does not take --sort"),
        (["stats", "more"], UsageError, "stats is followed by 1 words"),
        (["allocation", "n1"], UsageError, "write: allocation NODE CORE"),
        (["allocation", "n9", "0"], UsageError, "there is no node 'n9'; there are n1, n2"),
        (["allocation", "n1", "9"], UsageError, "n1 has no core '9'; it has 0, 1"),
        (["job"], UsageError, "job of which tasks?"),
        (["jobs", "--state", "RUNNING"], UsageError, "there is no state 'RUNNING'"),
        (["stats", "--csv", "--json"], UsageError, "only one of --csv and --json"),
        (["stats", "--html", "x.html"], UsageError, "a page has all views"),
        (["--html", "x.html", "--details"], UsageError, "--html does not take --details"),
        (["--html", "no/folder/x.html"], PilotfishError, "cannot be written: No such file or directory"),
        (["gantt", "no/folder/x.svg"], PilotfishError, "cannot be written: No such file or directory"),
        (["gantt", "x.svg", "--csv"], UsageError, "a picture is not csv"),
    ],
)
def test_what_makes_no_sense_is_said(
    run: PastRun, ask: Ask, words: list[str], error: type[PilotfishError], message: str
) -> None:
    with pytest.raises(error) as raised:
        ask(*words)
    assert message in str(raised.value)


def test_a_torn_line_is_told_and_the_others_count(run: PastRun, ask: Ask) -> None:
    """As a full disk leaves it."""
    with open(run.folder / "jobs.report", "ab") as report:
        report.write(b'{"name": "a:')
    found = json.loads(ask("stats", "--json"))
    assert found["total_jobs"] == 4
    assert found["problems"] == [f"{run.folder}/jobs.report: a line is torn"]


def test_a_report_for_people_is_refused(run: PastRun, ask: Ask) -> None:
    (run.folder / "jobs.report").write_text("a:1 (SUCCEED)\n\trtime: 0:00:01\n")
    with pytest.raises(RefusedError, match="the report is text"):
        ask("stats")


def test_bytes_that_are_no_text_are_shown(wd: Path, ask: Ask) -> None:
    """A program of an old data set, whose name has a byte of Latin 1, and what it said."""
    odd = codec.to_text("caf\udce9")
    with PastRun(wd, {"n1": 1}) as run:
        run.submit(JobSpec("a", Execution(exec=odd, wd=odd)))
        run.task("a", {"n1": [0]}, 1, 2, code=1, message=f"{odd} <&>")
        run.close(3)
    assert "caf" in ask("text")
    assert json.loads(ask("jobs", "--json"))["tasks"][0]["program"].startswith("caf")
    ask("jobs", "--csv")
    ask("--html", "run.html")
