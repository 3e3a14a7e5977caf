"""Metrics as text: the parsers are those of Prometheus."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from socket import create_connection

import pytest
from patience import PATIENCE_S
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as old_format

from pilotfish import Jobs, LocalManager
from pilotfish.pilot.manager.config import build
from pilotfish.pilot.manager.metrics import Family, as_text
from pilotfish.pilot.model.errors import SettingsError

FAMILIES = [
    Family("pf_pilot", "info", "The pilot.", [({"id": 'a"b\\c\nd'}, 1)]),
    Family("pf_ended", "counter", "Ends.", [({}, 12)]),
    Family("pf_tasks", "gauge", "Tasks.", [({"state": "queued"}, 3), ({"state": "failed"}, 0.5)]),
]


def _samples(families: object) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families  # type: ignore[attr-defined]
        for sample in family.samples
    }


def test_the_text_is_open_metrics_and_in_a_file_what_a_node_exporter_reads() -> None:
    expected = {
        "pf_pilot_info[('id', 'a\"b\\\\c\\nd')]": 1.0,
        "pf_ended_total[]": 12.0,
        "pf_tasks[('state', 'queued')]": 3.0,
        "pf_tasks[('state', 'failed')]": 0.5,
    }
    assert _samples(open_metrics(as_text(FAMILIES))) == expected  # type: ignore[no-untyped-call]
    text = as_text(FAMILIES, open_metrics=False)
    assert _samples(old_format(text)) == expected
    assert [family.type for family in old_format(text)] == ["gauge", "counter", "gauge"]
    assert "EOF" not in text


@pytest.mark.parametrize("text", ["", "http", "70000", "1:2:x", "-1", "\u00b2"])
def test_what_is_no_port_is_refused_before_anything_begins(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a port; write 9400, or 0\.0\.0\.0:9400 to let others in"):
        build({"metrics": text})


def test_a_pilot_serves_metrics_and_writes_them_to_a_file(wd: Path, wait_until: Callable[..., None]) -> None:
    file = wd / "pilot.prom"
    words = ["--wd", wd, "--nodes", "n1:2:1gpu:1G", "--metrics", "0", "--metrics-file", file]
    with LocalManager(words, {"log_file": "/dev/null"}) as pilot:
        address = pilot.system_status()["System"]["MetricsAddress"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", address)

        def asked() -> dict[str, float]:
            with urllib.request.urlopen(address, timeout=PATIENCE_S) as reply:
                assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
                return _samples(open_metrics(reply.read().decode()))  # type: ignore[no-untyped-call]

        work = Jobs().add(name="good", exec="true", iteration=3).add(name="bad", exec="false")
        pilot.submit(work.add(name="long", exec="sleep", args=["1000"], numNodes=1, numCores=1, gpus=1))
        wait_until(lambda: asked()["pilotfish_tasks_ended_total[]"] == 4, "the ends")
        seen = asked()
        assert seen["pilotfish_up[]"] == seen["pilotfish_tasks_running[]"] == 1
        assert seen["pilotfish_tasks[('state', 'failed')]"] == seen["pilotfish_used_gpus[]"] == 1
        assert (seen["pilotfish_used_cores[]"], seen["pilotfish_cores[]"]) == (1, 2)
        assert seen["pilotfish_node_used_cores[('node', 'n1')]"] == 1
        assert seen["pilotfish_memory_bytes[]"] == 2**30
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(address.replace("metrics", "else"), timeout=PATIENCE_S)
        refused.value.close()
        host, port = address.split("/")[2].split(":")
        with create_connection(
            (host, int(port)), PATIENCE_S
        ):  # says nothing, and holds up neither the pilot nor others
            assert pilot.client.task_counts().total == 5
            assert asked()["pilotfish_up[]"] == 1
        assert file.stat().st_mode & 0o777 == 0o644
        assert _samples(old_format(file.read_text()))["pilotfish_up[]"] == 1
        pilot.cancel(["long"])
    assert _samples(old_format(file.read_text()))["pilotfish_up[]"] == 0
