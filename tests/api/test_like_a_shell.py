"""What a task of `pilotfish run` inherits is what a command of the shell would have inherited that started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S

ASK = """
ulimit -S -n; ulimit -H -n; ulimit -S -c; ulimit -S -s; umask
for fd in /proc/$$/fd/*; do [ $fd = /proc/$$/fd/255 ] || echo "${fd##*/}"; done  # 255: where bash has its script
grep ^SigBlk /proc/self/status
echo $((0x$(sed -n 's/^SigIgn:[^0-9a-f]*//p' /proc/self/status) & ~0x180000000))  # glibc's posix_spawn ignores its own two
"""


def _as_on_a_terminal() -> None:
    """These tests may themselves be run by `nohup` or in the background, where these signals are ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def test_limits_signals_and_descriptors_are_those_of_the_shell(wd: Path) -> None:
    """`run` has a pipe to its pilot, and a manager raises its limit of open files: neither reaches a task."""
    (wd / "ask").write_text(ASK)
    line = f"""
ulimit -S -n 700 && ulimit -S -c 0 && ulimit -S -s 4096 && umask 027
bash ask </dev/null >wanted 2>/dev/null
exec {sys.executable} -m pilotfish run --quiet --nodes 1 --output out -- bash {wd}/ask
"""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=wd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=_as_on_a_terminal,
    )
    assert done.returncode == 0, done.stderr
    assert (wd / "out" / "task.out").read_text().splitlines() == (wd / "wanted").read_text().splitlines()
