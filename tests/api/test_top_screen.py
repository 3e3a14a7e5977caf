"""What `pilotfish top` shows and what its keys do, without a terminal and without a pilot."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from pilotfish.api.amounts import duration, memory, rate
from pilotfish.api.keyboard import names
from pilotfish.api.top_screen import screen
from pilotfish.api.top_view import PANES, Cancel, Look, Quit, View
from pilotfish.pilot.wire.overview import Amount, Failure, Node, Overview, Pilot, Running, Tasks, Waiting

NOW_S = 10_000.0


def seen(running: int = 2, name: str = "sim") -> Overview:
    return Overview(
        1,
        Pilot("host.1", "host", "/wd", NOW_S, NOW_S - 125, NOW_S + 3600, warnings=["the disk is slow"]),
        Tasks(100, 60, 1, running, 30, 2, 3, 1, 2.0, 32.0),
        Amount(3, 6),
        Amount(1, 1),
        Amount(512, 2048),
        2,
        1,
        [
            Node("m", "LOST", 0, Amount(0, 2), Amount(0, 0), Amount(0, 0), "ssh: no route"),
            Node("n", "READY", 2, Amount(3, 4), Amount(1, 1), Amount(512, 2048)),
        ],
        running,
        [Running(f"{name}:{number}", "n", NOW_S - 60 + number, 1, 1, f"/wd/{number}.out") for number in range(running)],
        1,
        4,
        [Waiting("4 cores", 3, 61, "wide", ["not enough cores are free: at most 3 on one node"])],
        [Failure("bad", NOW_S - 5, 3, "", "n", "/wd/bad.out", "/wd/bad.err", ["no mesh", "giving up"])],
        ["agent.ready node=n"],
    )


class Written:
    """What tasks have written."""

    def tail(self, task: str, path: str, of_stderr: bool, lines: int) -> str:
        return f"first of {path}\nlast of {path}" if path else ""


def shown(
    view: View | None = None, size: tuple[int, int] | None = (80, 24), overview: Overview | None = None
) -> list[str]:
    lines = screen(overview or seen(), view or View(), size, Written())
    return [line.plain for line in lines]


def test_a_small_terminal_has_a_bit_of_everything() -> None:
    assert shown() == [
        " pilotfish host.1 on host  up 2:05  1:00:00 until the allocation ends",
        " 100 tasks: 30 done, 2 failed, 2 running, 61 waiting, 4 cancelled or omitted",
        " 2.0/s  32 s left  [##################...............................] 36%",
        " cores [#####.....] 3/6  GPUs 1/1  memory 512 MiB/2.0 GiB  nodes 1/2 ready",
        " the disk is slow",
        "1 nodes (2)",
        "  NODE  STATE  CORES             GPUS  MEMORY           TASKS",
        "  m     LOST   [..........] 0/2  -     -                0      ssh: no route",
        "  n     READY  [########..] 3/4  1/1   512 MiB/2.0 GiB  2",
        "2 running (2)",
        "  TASK   NODE  CORES  AGE",
        "> sim:0  n     1      1:00",
        "  sim:1  n     1      59 s",
        "3 queue (1)",
        "  NEEDS    TASKS  JOBS  NEXT",
        "  4 cores  61     3     wide",
        "   not enough cores are free: at most 3 on one node",
        "4 failures (the latest 1 of 2)",
        "  bad  exit code 3  n  5 s ago",
        "   | no mesh",
        "   | giving up",
        "5 log",
        "  agent.ready node=n",
        " Tab part  / filter  c cancel  t output  h help  q quit",
    ]


@pytest.mark.parametrize("size", [(80, 24), (20, 5), (200, 60), (1, 1), (40, 10)])
@pytest.mark.parametrize("pane", PANES)
def test_every_line_of_every_terminal_is_used_and_none_is_too_long(size: tuple[int, int], pane: str) -> None:
    lines = shown(View(pane=pane), size, seen(50))
    assert len(lines) == size[1]
    assert max(map(len, lines)) <= size[0]


def test_the_part_that_is_looked_at_gets_the_room_and_keeps_the_chosen_line_in_sight() -> None:
    view = View(pane="running", line=40)
    assert "> sim:40  n     1      20 s" in shown(view, overview=seen(50))
    assert "> sim:0   n     1      1:00" in shown(View(), overview=seen(50))


def test_without_a_terminal_everything_is_said_and_nothing_is_cut() -> None:
    text = "\n".join(shown(size=None, overview=seen(50)))
    assert "  sim:49  n     1      11 s" in text
    assert "\u2026" not in text


def test_named_resources_have_a_line_of_their_own_and_stand_beside_their_nodes() -> None:
    overview = seen()
    overview.named = {"licence": Amount(2, 20), "scratch": Amount(1 << 30, 4 << 30, in_bytes=True)}
    overview.nodes[1].named = {"scratch": Amount(1 << 30, 4 << 30, in_bytes=True)}
    lines = shown(overview=overview)
    assert lines[4] == " licence 2/20  scratch 1.0 GiB/4.0 GiB"
    assert lines[9] == "  n     READY  [########..] 3/4  1/1   512 MiB/2.0 GiB  2      scratch 1.0 GiB/\u2026"


def test_what_would_drive_the_terminal_is_not_printed() -> None:
    text = "\n".join(shown(overview=seen(name="\x1b]0;evil\x07")))
    assert "\x1b" not in text
    assert "\ufffd]0;evil\ufffd:0" in text


def test_what_is_sent_ahead_is_told_beside_what_waits() -> None:
    lines = shown(View(pane="queue"))
    assert "  1 task sent ahead to nodes, for cores that get free" in lines
    assert "  4 tasks wait for other jobs" in lines


def test_short_tasks_that_are_never_listed_are_counted() -> None:
    overview = seen(0)
    overview.tasks.running = 7
    assert "> 7 tasks too new or too short to be listed" in shown(overview=overview)


def test_colours_are_for_terminals_only_and_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(**options: bool) -> str:
        text = io.StringIO()
        Console(file=text, width=80, **options).print(Group(*screen(seen(), View(), (80, 24), Written())))  # type: ignore[arg-type]
        return text.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[31m" in drawn(force_terminal=True)
    assert "\x1b" not in drawn(force_terminal=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in drawn(force_terminal=True)


# --- keys ---------------------------------------------------------------------------------------------------------------


def press(view: View, *keys: str) -> list[object]:
    return [view.press(key, seen()) for key in keys]


def test_tab_goes_round_and_numbers_go_at_once() -> None:
    view = View()
    for pane in ("queue", "failures", "log", "nodes", "running"):
        press(view, "tab")
        assert view.pane == pane
    press(view, "4")
    assert view.pane == "failures"


def test_a_line_can_be_chosen_and_no_further_than_there_are() -> None:
    view = View()
    press(view, "down", "down", "down")
    assert view.line == 1
    press(view, "g")
    assert view.line == 0


def test_a_filter_is_typed_and_cleared() -> None:
    view = View()
    assert press(view, "/", "n", "q", "backspace", "7", "enter") == [None, None, None, None, None, Look()]
    assert (view.filter, view.typing) == ("n7", None)
    assert "only 'n7' (Esc: all)" in shown(view)[-1]
    assert press(view, "esc") == [Look()]
    assert view.filter == ""


def test_to_cancel_is_asked_for_first() -> None:
    view = View(line=1)
    assert press(view, "c", "n") == [None, None]
    assert press(view, "c", "y") == [None, Cancel("sim:1")]
    view = View(pane="queue")
    press(view, "c")
    assert shown(view)[-1] == " cancel wide? y/n"
    assert press(view, "y") == [Cancel("wide")]
    assert press(View(pane="log"), "c", "y") == [None, None]


def test_the_output_of_a_task_can_be_read() -> None:
    view = View()
    press(view, "t")
    assert "stdout of sim:0: /wd/0.out" in shown(view)
    assert "  last of /wd/0.out" in shown(view)
    press(view, "e")
    assert "stderr of sim:0" in shown(view)
    assert "  nothing yet, or it cannot be seen from here" in shown(view)
    press(view, "esc")
    assert view.output is None
    failed = View(pane="failures")
    press(failed, "enter")
    assert "stderr of bad: /wd/bad.err" in shown(failed)


def test_there_is_help_and_a_way_out() -> None:
    view = View()
    assert press(view, "h", "x") == [None, None]
    assert any("cancel the chosen task" in line for line in shown(view))
    assert press(view, "esc", "q") == [None, Quit()]
    assert press(View(typing="text"), "ctrl-c") == [Quit()]


def test_what_terminals_send_is_told_apart() -> None:
    assert list(names("a\x1b[A\x1bOB\x1b[5~é\t\r\x7f")) == ["a", "up", "down", "pgup", "é", "tab", "enter", "backspace"]
    assert list(names("\x1b")) == ["esc"]
    assert list(names("\x1b[1;5Cq\x1b[200")) == ["q"]
    assert list(names("\x03\x1a")) == ["ctrl-c"]


# --- words --------------------------------------------------------------------------------------------------------------


def test_amounts_are_short() -> None:
    assert [duration(seconds) for seconds in (0.2, 59, 185, 7384, 4 * 86400 + 62)] == [
        "0 s",
        "59 s",
        "3:05",
        "2:03:04",
        "4 d 00:01:02",
    ]
    assert [memory(mib) for mib in (0, 1023, 1536)] == ["0 MiB", "1023 MiB", "1.5 GiB"]
    assert [rate(per_s) for per_s in (None, 1234.5, 2.25, 0.05, 0.001)] == ["-", "1234/s", "2.2/s", "3.0/min", "3.6/h"]
