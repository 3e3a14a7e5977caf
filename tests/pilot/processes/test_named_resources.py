"""Named resources over the death of the manager: agents tell what their tasks have, and nobody else gets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from real_pilot import Pilot

SCRIPT = """mkdir lock-$$$$PILOTFISH_RESOURCE_NVME || echo twice >> wrong
until test -e go; do sleep 0.05; done
rmdir lock-$$$$PILOTFISH_RESOURCE_NVME
echo $$$$PILOTFISH_RESOURCE_NVME $$$$PILOTFISH_RESOURCE_LICENCE >> ran
"""


def test_a_resumed_manager_gives_nothing_out_twice(wd: Path, wait_until: Callable[..., None]) -> None:
    """Three of four licences are taken when it is killed: the next task still finds one, and its own disk."""
    pilot = Pilot(wd, "--nodes", "n1:8", "--resource", "nvme=0-9", "--pool-resource", "licence=4")
    client = pilot.client()
    resources = {"nvme": 1, "licence": 1}
    execution = {"script": SCRIPT}
    jobs = [{"name": name, "execution": execution, "iteration": {"stop": 3}, "resources": resources} for name in "ab"]
    client.send_request({"request": "submit", "jobs": jobs[:1]})
    wait_until(lambda: len(list(wd.glob("lock-*"))) == 3, "three tasks run")
    client.cleanup()
    pilot.kill()
    pilot.resume()
    client = pilot.client()
    client.send_request({"request": "submit", "jobs": jobs[1:]})
    wait_until(lambda: len(list(wd.glob("lock-*"))) == 4, "a fourth gets the last licence")
    assert not (wd / "wrong").exists()
    (wd / "go").touch()
    client.wait4all()
    client.cleanup()
    assert pilot.finish() == 0
    assert not (wd / "wrong").exists()
    assert [line.split()[1] for line in (wd / "ran").read_text().splitlines()] == ["1"] * 6
