"""Single jobs submitted, killed over, looked at, cancelled, forgotten in any order by two programs: none runs twice or is lost.

`PILOTFISH_SEQUENCES` says how many sequences are tried.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pilotfish import AsyncResult, JobScript
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED, FAILED
from pilotfish.launcher.job import store
from pilotfish.launcher.job.single import Phase
from pilotfish.launcher.job.states import Reason
from pilotfish.launcher.machines.shell import Shell
from pilotfish.launcher.submission.looking import look_at
from pilotfish.launcher.submission.single import SingleJob
from pilotfish.pilot.model.errors import RefusedError, TransientError

SEQUENCES = int(os.environ.get("PILOTFISH_SEQUENCES", "4"))
STEPS = 12
CODES = {"a": 0, "b": 3}
TAKEN = Shell.submit


class Killed(BaseException):
    """The program is gone at this moment."""


def dies_before(*_: Any) -> str:
    raise Killed


def dies_after(*given: Any) -> str:
    TAKEN(*given)
    raise Killed


class Programs(RuleBasedStateMachine):
    """Each piece of work may have been started once, and once more for each end that is no success, or was forgotten."""

    def __init__(self, wd: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        for path in wd.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.wd, self.patch = wd, patch
        self.allowed = Counter(dict.fromkeys(CODES, 1))
        self.handles: list[tuple[str, AsyncResult]] = []
        self.dumps = 0

    def teardown(self) -> None:
        for key in CODES:
            (self.wd / f"gate-{key}").touch()
        for record in store.all_records():
            with suppress(TransientError):  # it was never handed over
                SingleJob(record).cancel()

    def starts(self) -> Counter[str]:
        ledger = self.wd / "ledger"
        return Counter(ledger.read_text().split() if ledger.exists() else ())

    def again(self, key: str) -> None:
        self.allowed[key] = self.starts()[key] + 1

    def chosen(self, which: int) -> tuple[str, AsyncResult] | None:
        return self.handles[which % len(self.handles)] if self.handles else None

    def finish(self, key: str) -> None:
        """Let the jobs of this kind come to their end, and all handles see it."""
        (self.wd / f"gate-{key}").touch()
        mine = [handle for name, handle in self.handles if name == key]
        AsyncResult.wait_all(mine)
        (self.wd / f"gate-{key}").unlink()
        ends: dict[str, set[int]] = {}
        for handle in mine:
            assert handle.job is not None
            ends.setdefault(handle.job.hash, set()).add(handle.status)
        assert all(len(each) == 1 for each in ends.values()), f"handles of one job tell {ends}"
        expected = {COMPLETED if CODES[key] == 0 else FAILED, CANCELLED}
        assert set().union(*ends.values()) <= expected if ends else True
        if CODES[key]:
            self.again(key)

    # --- what somebody does ---------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(sorted(CODES)), submit=st.sampled_from([TAKEN, TAKEN, dies_before, dies_after]))
    def submit(self, key: str, submit: Any) -> None:
        text = (
            f"echo {key} >>{self.wd}/ledger; until [ -e {self.wd}/gate-{key} ]; do sleep 0.02; done; exit {CODES[key]}"
        )
        with self.patch.context() as patch:
            patch.setattr(Shell, "submit", submit)
            with suppress(Killed):
                self.handles.append((key, JobScript(text, key).submit(cache_id=key)))

    @rule(which=st.integers(0, 5))
    def load_what_was_dumped(self, which: int) -> None:
        """In another program: with a handle of its own."""
        chosen = self.chosen(which)
        if chosen is not None:
            self.dumps += 1
            chosen[1].dump(self.wd / f"dump{self.dumps}")
            self.handles.append((chosen[0], AsyncResult.load(self.wd / f"dump{self.dumps}")))

    @rule(which=st.integers(0, 5))
    def look(self, which: int) -> None:
        chosen = self.chosen(which)
        if chosen is not None:
            chosen[1].ready()

    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        chosen = self.chosen(which)
        if chosen is not None:
            with suppress(TransientError):
                chosen[1].cancel()
                if chosen[1].status != COMPLETED:
                    self.again(chosen[0])

    @rule(key=st.sampled_from(sorted(CODES)))
    def wait(self, key: str) -> None:
        self.finish(key)

    @rule(which=st.integers(0, 5))
    def forget(self, which: int) -> None:
        chosen = self.chosen(which)
        if chosen is None:
            return
        key, handle = chosen
        assert handle.job is not None
        name = handle.job.hash
        try:
            handle.forget()
        except RefusedError:
            return
        self.handles = [(other, each) for other, each in self.handles if each.job is None or each.job.hash != name]
        self.again(key)

    # --- what always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        starts = self.starts()
        assert all(starts[key] <= self.allowed[key] for key in CODES), f"ran twice: {starts}, allowed {self.allowed}"
        listed = [SingleJob(record) for record in store.all_records() if record.phase is not Phase.REFUSED]
        gone = [
            job.record for job, found in zip(listed, look_at(listed), strict=True) if found.reason == Reason.VANISHED
        ]
        assert not gone, f"listed and gone: {gone}"


def test_any_order_of_single_jobs(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("PILOTFISH_HOME", str(wd / "home"))
    monkeypatch.setattr(JobScript, "backend", "shell")
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    monkeypatch.setattr(JobScript, "max_sleep_interval", 0.05)
    chosen = settings(max_examples=SEQUENCES, stateful_step_count=STEPS, print_blob=True)
    run_state_machine_as_test(partial(Programs, wd, monkeypatch), settings=chosen)  # type: ignore[arg-type]
