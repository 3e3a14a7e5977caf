"""Settings said in several places: who wins, what an error names, where each value came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pilotfish.pilot.cli import service
from pilotfish.pilot.manager.config import build
from pilotfish.pilot.manager.sources import Given, gather
from pilotfish.pilot.model.errors import SettingsError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The usual file of a user whose home is `tmp_path`."""
    folder = tmp_path / ".config" / "pilotfish"
    folder.mkdir(parents=True)
    return folder / "config.toml"


def test_an_option_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path, config: Path) -> None:
    config.write_text('[service]\nlog = "debug"\nnet-port = 1\nkill-grace = 3\n')
    said = gather({"net_port": 3}, {"PILOTFISH_NET_PORT": "2", "PILOTFISH_LOG": "error"}, tmp_path)
    assert said == {
        "net-port": Given(3, "--net-port"),
        "log": Given("error", "PILOTFISH_LOG"),
        "kill-grace": Given(3, f"{config}: service.kill-grace"),
    }


def test_a_file_can_be_named_or_switched_off(tmp_path: Path, config: Path) -> None:
    config.write_text("[service]\nnet-port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("[service]\nnet_port = 2\n")
    assert gather({}, {"PILOTFISH_CONFIG": ""}, tmp_path) == {}
    assert gather({}, {"PILOTFISH_CONFIG": str(other)}, tmp_path)["net-port"].value == 2
    assert gather({"config": other}, {"PILOTFISH_CONFIG": ""}, tmp_path)["net-port"].value == 2
    assert gather({}, {"XDG_CONFIG_HOME": str(tmp_path / "none")}, tmp_path) == {}


def test_each_kind_of_value_can_come_from_both(tmp_path: Path, config: Path) -> None:
    config.write_text('[service]\nnet = true\ntags = ["a", "b"]\nheartbeat = 1\nwd = "/w"\nreport-format = "text"\n')
    from_file = gather({}, {}, tmp_path)
    names = {"NET": "yes", "TAGS": "a,b", "HEARTBEAT": "1", "WD": "/w", "REPORT_FORMAT": "text"}
    from_environment = gather({}, {"PILOTFISH_CONFIG": ""} | {f"PILOTFISH_{n}": v for n, v in names.items()}, tmp_path)
    assert {name: given.value for name, given in from_file.items()} == {
        name: given.value for name, given in from_environment.items()
    }


def test_variables_of_ours_that_are_no_settings_are_passed_over(tmp_path: Path) -> None:
    ours = {"PILOTFISH_TASK": "a:1", "PILOTFISH_RUN": "1", "PILOTFISH_CONNECTION": "x", "PILOTFISH_ELSE": "y"}
    assert gather({}, ours, tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[service]\nnet-prot = 1\n", "service.net-prot: unknown setting; write net-port"),
        ("[service]\nready-fd = 1\n", "service.ready-fd: unknown setting"),
        ("[servic]\nnet-port = 1\n", "servic: unknown table; write [service]"),
        ("net-port = 1\n", "net-port: unknown table; write [service]"),
        ("[service]\nnet-port = true\n", "service.net-port: True is not a whole number"),
        ('[service]\nlog = "loud"\n', "service.log: 'loud' is not known; use critical, error"),
        ("[service\n", "is not TOML: "),
    ],
)
def test_an_error_in_the_file_names_file_and_key(tmp_path: Path, config: Path, text: str, error: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        gather({}, {}, tmp_path)
    assert str(caught.value).startswith(f"{config}: {error}")


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("PILOTFISH_NET_PROT", "1", "unknown setting; write PILOTFISH_NET_PORT"),
        ("PILOTFISH_NET_PORT", "one", '"one" is not a number'),
        ("PILOTFISH_NET", "maybe", '"maybe" is neither yes nor no; write 1 or 0'),
    ],
)
def test_an_error_in_a_variable_names_it(tmp_path: Path, variable: str, value: str, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        gather({}, {variable: value}, tmp_path)
    assert str(caught.value) == f"{variable}: {error}"


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory"):
        gather({"config": tmp_path / "none.toml"}, {}, tmp_path)


def test_a_value_out_of_range_is_named_where_it_was_said(tmp_path: Path) -> None:
    said = gather({}, {"PILOTFISH_NET_PORT": "0"}, tmp_path)
    with pytest.raises(SettingsError) as caught:
        build({name: given.value for name, given in said.items()}, {name: given.origin for name, given in said.items()})
    assert str(caught.value) == "PILOTFISH_NET_PORT: 0 is not a port; use 1 to 65535"


def test_every_setting_is_shown_with_its_origin(tmp_path: Path, config: Path) -> None:
    config.write_text("[service]\nnet-port = 5000\n")
    environ = {"HOME": str(tmp_path), "PILOTFISH_LOG": "debug", "XDG_CONFIG_HOME": None, "PILOTFISH_CONFIG": None}
    done = CliRunner().invoke(service, ["--show-settings", "--json", "--kill-grace", "2"], env=environ)
    shown = json.loads(done.stdout)
    assert shown["net-port"] == {"value": 5000, "origin": f"{config}: service.net-port"}
    assert shown["log"] == {"value": "debug", "origin": "PILOTFISH_LOG"}
    assert shown["kill-grace"] == {"value": 2.0, "origin": "--kill-grace"}
    assert shown["heartbeat"] == {"value": 2.0, "origin": "default"}
