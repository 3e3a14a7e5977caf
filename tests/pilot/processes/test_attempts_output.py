"""What attempts have printed is kept, whatever ended them: their own failure, or that of their agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_pilot import Pilot, submit, wait_for


def job(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "execution": {"script": script.replace("$", "$$$$"), "stdout": name}, **more}


def test_a_failed_attempt_and_one_whose_agent_died_keep_their_output(wd: Path, wait_until: Callable[..., None]) -> None:
    pilot = Pilot(wd, "--nodes", "1")
    submit(pilot, job("fails", "echo $RANDOM; exit 3", retries=2))
    assert wait_for(pilot, "fails") == {"fails": "FAILED"}
    assert sorted(path.name for path in wd.glob("fails*")) == ["fails", "fails.1", "fails.2"]
    assert len({path.read_text() for path in wd.glob("fails*")}) == 3

    submit(pilot, job("crashes", "if [ -e again ]; then echo second; exit; fi; echo first; touch again; sleep 1000"))
    client = pilot.client()
    wait_until(lambda: client.list()["crashes"]["status"] == "EXECUTING", "it runs")
    wait_until((wd / "again").exists, "it has printed")
    pilot.agents()[0].kill()
    assert wait_for(pilot, "crashes") == {"crashes": "SUCCEED"}
    assert {path.name: path.read_text() for path in wd.glob("crashes*")} == {
        "crashes.1": "first\n",
        "crashes": "second\n",
    }
    assert {name: info.attempts for name, info in client.info_parsed(["fails", "crashes"]).items()} == {
        "fails": 3,
        "crashes": 2,
    }
    client.cleanup()
    assert pilot.finish() == 0
