"""Settings of a manager, and how the options of `pilotfish service` become them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from pilotfish.pilot.cli import service
from pilotfish.pilot.manager.config import OPTIONS, Settings, build, default_of
from pilotfish.pilot.manager.sources import gather
from pilotfish.pilot.model.errors import SettingsError


def options_of(*words: str) -> dict[str, Any]:
    """What a manager is told by these words of a command line."""
    params = service.make_context("service", list(words)).params
    return {name: given.value for name, given in gather(params, {}, Path("/nowhere")).items()}


def test_without_options_everything_has_its_default() -> None:
    assert build(options_of()) == Settings()


def test_each_option_that_has_an_effect_is_a_field() -> None:
    names = {field.name for field in fields(Settings)}
    effective = [option for option in OPTIONS if option.group not in ("accepted", "command")]
    assert {option.setting for option in effective} == names


def test_values_arrive_in_the_types_of_the_fields() -> None:
    settings = build(options_of("--wd", "w", "--tags", "a, b,", "--kill-grace", "2.5", "--crash-limit", "3"))
    assert settings == Settings(wd=Path("w"), tags=("a", "b"), kill_grace_s=2.5, crash_limit=3)


@pytest.mark.parametrize("words", [["--net"], ["--net-plain"], ["--net-port", "5000"], ["--net-port-max", "9000"]])
def test_the_tcp_door_opens_when_any_option_asks_for_it(words: list[str]) -> None:
    assert build(options_of(*words)).net


def test_a_port_of_events_alone_opens_nothing() -> None:
    """As in the old service."""
    assert not build(options_of("--net-pub-port", "5000")).net


def test_a_path_of_requests_implies_the_file_interface() -> None:
    assert build(options_of("--file-path", "r.json")) == Settings(file=True, file_path="r.json")


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.group == "accepted"], ids=lambda o: o.name)
def test_options_without_effect_here_change_nothing(option: Any) -> None:
    value = {"flag": True, "float": 1.0, "text": "auto"}.get(option.kind, option.kind[0])
    assert build({option.name: value}) == Settings()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--envschema", "auto,lsf"], '--envschema: environment "lsf" not available; use auto, common, slurm'),
        (["--net-port-min", "9", "--net-port-max", "8"], "--net-port-min, --net-port-max: 9 is above 8"),
        (["--net-port", "0"], "--net-port: 0 is not a port; use 1 to 65535"),
        (["--net-port-max", "65536"], "--net-port-max: 65536 is not a port; use 1 to 65535"),
        (["--net-pub-port", "99999"], "--net-pub-port: 99999 is not a port; use 1 to 65535"),
        (["--node-lost", "-1"], "--node-lost: -1.0 is negative"),
        (["--kill-grace", "nan"], "--kill-grace: nan is not a finite number"),
        (["--heartbeat", "inf"], "--heartbeat: inf is not a finite number"),
        (["--node-lost", "0"], "--node-lost: must be above 0"),
        (["--heartbeat", "0"], "--heartbeat: must be above 0"),
        (["--crash-limit", "0"], "--crash-limit: must be above 0"),
    ],
)
def test_values_that_cannot_be_used_are_named_with_their_option(words: list[str], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(options_of(*words))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--net-pu", "5000"], "net-pub-port", 5000),
        (["--report-fi=x"], "report-file", "x"),
        (["--system"], "system-core", True),
        (["--nod", "2"], "nodes", "2"),
        (["--l", "debug"], "log", "debug"),
        (["--kill", "1"], "kill-grace", 1.0),
    ],
)
def test_long_options_may_be_abbreviated_and_ours_do_not_get_in_the_way(
    words: list[str], name: str, value: object
) -> None:
    assert options_of(*words)[name] == value


def test_an_option_keeps_its_old_name_which_is_not_shown() -> None:
    """... on the command line, and where it is a variable or a key of the file."""
    for words in (["--placement", "ssh"], ["--placement=ssh"], ["--agent-launcher", "ssh"]):
        assert options_of(*words)["agent-launcher"] == "ssh"
    assert gather({}, {"PILOTFISH_PLACEMENT": "ssh"}, Path("/nowhere"))["agent-launcher"].value == "ssh"
    shown = service.get_help(click.Context(service))
    assert "--agent-launcher" in shown
    assert "--placement" not in shown


def test_a_beginning_that_several_options_share_is_refused_with_their_names() -> None:
    with pytest.raises(click.UsageError, match="--report-f may be any of --report-file, --report-format"):
        options_of("--report-f", "x")


def test_help_shows_the_defaults_that_settings_have() -> None:
    shown = service.get_help(click.Context(service))
    assert f"[default: {default_of(next(option for option in OPTIONS if option.name == 'kill-grace'))}]" in shown
    assert "--lifeline-fd" not in shown
