"""Edit, interrupt, submit again, take over, watch, cancel, clean, in any order, by two launchers: nothing runs twice.

`PILOTFISH_SEQUENCES` says how many sequences are tried; more than a few are for a long run.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from takeover_site import NAMES, Killed, Site, killed_after

from pilotfish.launcher.cli.submissions import submissions
from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.placement import Placement
from pilotfish.pilot.model.errors import RefusedError, UsageError

SEQUENCES = int(os.environ.get("PILOTFISH_SEQUENCES", "3"))
STEPS = 10
SILENT = "d"
"""A task that ends well and makes no result until it is allowed to."""

names = st.permutations(NAMES).flatmap(lambda order: st.integers(1, 3).map(lambda count: "".join(order[:count])))


def order_of(each: Placement) -> str:
    return "".join(task.task_work_path for task in each.description.tasks)


class Launchers(RuleBasedStateMachine):
    """What may have been started: each task once, and once more for whatever was cancelled, removed, changed or forgotten."""

    def __init__(self, wd: Path, make: Callable[..., Placement], patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        for name in ("here", "there", "home"):
            shutil.rmtree(wd / name, ignore_errors=True)
        for path in (*wd.glob("gate-*"), wd / "ledger"):
            path.unlink(missing_ok=True)
        self.site, self.patch = Site(wd, make), patch
        self.allowed = Counter(dict.fromkeys(NAMES, 1))
        self.sent = {name: {name} for name in NAMES}
        self.owing: set[str] = set()
        """Submissions whose missing results were told: their folder stays until somebody gives it up."""

    @initialize()
    def begin(self) -> None:
        """The silent task needs the word of the test to make its result."""
        task = self.site.task

        def silent(name: str) -> dict[str, Any]:
            made = task(name)
            if name == SILENT:
                made["command"] = made["command"].replace(
                    "cat in >out", f"[ ! -e {self.site.wd}/makes ] || cat in >out"
                )
            return made

        self.patch.setattr(self.site, "task", silent)

    def teardown(self) -> None:
        """In the end everything that is listed comes to its end, whole, and nothing is left on the machine."""
        self.site.open()
        rounds = 0
        while (listed := self.site.listed()) and rounds < 2 * len(NAMES):
            rounds += 1
            self.make_what_was_missing()
            for each in listed:
                self.attempt(partial(each.run, only_watch=True, check_interval_s=0.5))
        try:
            self.check()
            assert not listed, f"cannot be brought to an end: {[order_of(each) for each in listed]}"
            links = [name for name in self.site.on_machine() if (self.site.wd / "there" / name).is_symlink()]
            assert links == []
        finally:
            self.site.end_all()

    def again(self, order: str) -> None:
        """A later submission may run these once more."""
        for name in order:
            self.allowed[name] = self.site.starts()[name] + 1

    def attempt(self, act: Callable[[], Any]) -> Any:
        """What a person may be told instead of having it done."""
        try:
            return act()
        except (RefusedError, MissingFileError, UsageError, Killed):
            return None

    def chosen(self, which: int) -> Placement | None:
        listed = self.site.listed()
        return listed[which % len(listed)] if listed else None

    # --- what somebody does ---------------------------------------------------------------------------------------------

    @rule(order=names, steps=st.one_of(st.just(-1), st.integers(1, 80)))
    def submit(self, order: str, steps: int) -> None:
        """Edited or the same; interrupted anywhere, or detached."""

        def act() -> None:
            with killed_after(steps, self.patch):
                over = self.site.submit(order, detach=True)
            if over:
                self.again(order)

        self.attempt(act)

    @rule(order=names)
    def submit_without_an_input(self, order: str) -> None:
        path = self.site.wd / "here/w" / order[0] / "in"
        path.rename(path.with_name("hidden"))
        try:
            with pytest.raises(MissingFileError):
                self.site.submit(order, detach=True)
        finally:
            path.with_name("hidden").rename(path)

    @rule(name=st.sampled_from(NAMES), text=st.sampled_from(["1", "2"]))
    def change_an_input(self, name: str, text: str) -> None:
        """Work with other inputs is other work."""
        self.site.send(name, name + text)
        self.sent[name].add(name + text)
        self.again(name)

    @rule(which=st.integers(0, 3), other=names)
    def watch(self, which: int, other: str) -> None:
        """Another launcher wants some of the same, or to end it, while this one waits."""
        each = self.chosen(which)
        if each is None:
            return
        mine = order_of(each)
        self.site.open(mine)
        meanwhile = [lambda: self.site.submit(other, detach=True), lambda: self.clean(which, force=False)]

        def sleep(seconds: float) -> None:
            if meanwhile:
                self.attempt(meanwhile.pop())

        watched = Placement.of(record.load(each.hash), tell=self.site.told.append, sleep=sleep)
        self.attempt(lambda: self.finish(watched))
        for name in mine:
            (self.site.wd / f"gate-{name}").unlink()

    def finish(self, watched: Placement) -> None:
        try:
            watched.run(only_watch=True, check_interval_s=0.5)
        except MissingFileError:
            self.owing.add(watched.hash)
            raise
        finally:
            self.again(order_of(watched))
        self.owing.discard(watched.hash)

    @rule(which=st.integers(0, 3))
    def cancel(self, which: int) -> None:
        each = self.chosen(which)
        if each is not None:
            self.attempt(each.cancel)
            self.again(order_of(each))

    @rule(which=st.integers(0, 3), force=st.booleans())
    def clean(self, which: int, force: bool) -> None:
        each = self.chosen(which)
        if each is None:
            return
        words = ["clean", each.hash, *(["--force"] if force else [])]
        self.attempt(lambda: CliRunner().invoke(submissions, words, catch_exceptions=False))
        if force or each.hash not in record.names():
            self.owing.discard(each.hash)
            self.again(order_of(each))

    @rule()
    def make_what_was_missing(self) -> None:
        """On the machine, where the task has ended."""
        for folder in (self.site.wd / "there").glob(f"*/{SILENT}"):
            if (folder / "in").exists():
                shutil.copy(folder / "in", folder / "out")

    # --- what always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        starts = self.site.starts()
        assert all(starts[name] <= self.allowed[name] for name in NAMES), f"ran twice: {starts}, allowed {self.allowed}"
        assert all(self.site.result(name) in {None, *self.sent[name]} for name in NAMES), "a result of another task"
        self.site.check_listing()
        for name in self.owing:
            owner = record.successor(name) or name
            if owner in record.names():
                each = Placement.of(record.load(owner))
                assert Path(each.work(each.context()).root).is_dir(), f"{name} lost what it had not brought home"


def test_any_order(wd: Path, submission: Callable[..., Placement], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_HOME", str(wd / "home"))
    chosen = settings(max_examples=SEQUENCES, stateful_step_count=STEPS, print_blob=True)
    run_state_machine_as_test(partial(Launchers, wd, submission, monkeypatch), settings=chosen)  # type: ignore[arg-type]
