"""Whatever a machine answers, nothing outside the tasks' folder here is made, replaced or opened wider."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from liar import LIE, Liar
from sshd import Sshd

from pilotfish.launcher.contexts import archive, paths
from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import Context, RemoteFile, TransferError
from pilotfish.launcher.contexts.landing import Landing
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.paths import ForeignPathError
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.job import record
from pilotfish.launcher.submission.placement import Placement

OUTSIDE = [
    "/tmp/pilotfish-outside",
    "//tmp/pilotfish-outside",
    "../pilotfish-outside",
    "a/../../pilotfish-outside",
    "./../pilotfish-outside",
    "a/..",
    "..",
    "..\\pilotfish-outside",
    "a\\..\\..\\pilotfish-outside",
    ".",
    "./",
    "",
    "a/../.",
    "a\0b",
]
INSIDE = {"a": "a", "./a/b": "a/b", "a//b/./c": "a/b/c", "..a/b..": "..a/b..", "a\\b": "a\\b", "c:/x": "c:/x", " ": " "}


def digest(text: bytes = LIE) -> str:
    return hashlib.sha256(text).hexdigest()


# --- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_is_refused_and_named(name: str) -> None:
    with pytest.raises(ForeignPathError) as caught:
        paths.below(name, "find on host")
    assert str(caught.value).startswith(f"find on host: the machine has answered with the name {name!a}")


@pytest.mark.parametrize("name", INSIDE)
def test_any_other_name_has_one_spelling(name: str) -> None:
    assert paths.below(name, "") == INSIDE[name]


@pytest.mark.parametrize("prefix", ["", ".", "./", "a", "a/"])
@pytest.mark.parametrize("pattern", ["*", "**", ".", "./*", ".*", "..", "[!x]*", "?*", "*/*", "*/../*", "**/*"])
def test_no_pattern_means_a_name_that_leads_out(prefix: str, pattern: str) -> None:
    listing = [RemoteFile(name, 5, 0.0) for name in [*OUTSIDE, "a/../../b", "a//b", "ok", "a/ok"]]
    found, _ = staging.backward([pattern], prefix, listing)
    assert [name for name in found if paths.what_is_wrong(name)] == []


def test_control_signs_of_a_name_do_not_reach_the_terminal() -> None:
    with pytest.raises(ForeignPathError) as caught:
        paths.below("../\x1b[2J\udce4", "")
    assert "\\x1b[2J\\udce4" in str(caught.value)


# --- archives -------------------------------------------------------------------------------------------------------------


def entry(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    size: int = len(LIE),
    headers: dict[str, str] | None = None,
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.pax_headers = kind, link, 0o644, headers or {}
    made.size = size if made.isreg() else 0
    return made


def unpack(into: Path, entries: list[tarfile.TarInfo], wanted: list[str], outside: Path) -> None:
    """`@` in a name is the folder `outside`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in (copy(one) for one in entries):
            each.name = each.name.replace("@", str(outside))
            each.linkname = each.linkname.replace("@", str(outside))
            tar.addfile(each, io.BytesIO(LIE))
    stream.seek(0)
    promised = {name.replace("@", str(outside)): digest() for name in wanted}
    with Landing(into, promised) as landing:
        archive.unpack(stream, promised, landing, lambda path, size: None, sizes=dict.fromkeys(promised, len(LIE)))


HOSTILE = {
    "absolute": ([entry("@/x")], ["@/x"]),
    "upwards": ([entry("../outside/x")], ["../outside/x"]),
    "upwards from below": ([entry("a/../../outside/x")], ["../outside/x"]),
    "a file through a link that came before": (
        [entry("link", tarfile.SYMTYPE, "../outside"), entry("link/x")],
        ["link", "link/x"],
    ),
    "a link in the place of a file": ([entry("x", tarfile.SYMTYPE, "../outside/kept")], ["x"]),
    "a hard link": ([entry("x", tarfile.LNKTYPE, "../outside/kept")], ["x"]),
    "a device": ([entry("x", tarfile.CHRTYPE)], ["x"]),
    "a disk": ([entry("x", tarfile.BLKTYPE)], ["x"]),
    "one that nobody asked for": ([entry("y")], ["x"]),
    "in another case": ([entry("X")], ["x"]),
    "one that came before": ([entry("x"), entry("./x")], ["x"]),
    "the folder itself": ([entry("./")], ["."]),
    "a link to an absolute place": ([entry("x", tarfile.SYMTYPE, "@/kept")], ["x"]),
    "a hard link to a file that came": ([entry("x"), entry("y", tarfile.LNKTYPE, "x")], ["x", "y"]),
    "a hard link through a link": (
        [entry("link", tarfile.SYMTYPE, "@"), entry("x", tarfile.LNKTYPE, "link/kept")],
        ["link", "x"],
    ),
    "upwards by a backslash": ([entry("a\\..\\..\\outside\\x")], ["a"]),
    "in another spelling of a sign": ([entry("e\u0301")], ["\u00e9"]),
    "another name in its header": ([entry("x", headers={"path": "../outside/x"})], ["x"]),
    "a name as long as it likes": ([entry("../outside/" + "x/" * 30_000)], ["x"]),
    "a name with a line break": ([entry("x\n../outside/x")], ["x"]),
}

NO_FILES = {
    "a folder in the place of a file": [entry("x", tarfile.DIRTYPE)],
    "a pipe": [entry("x", tarfile.FIFOTYPE)],
    "another content": [entry("x", size=5)],
    "a hole without end": [entry("x", headers={"GNU.sparse.size": str(1 << 60), "GNU.sparse.map": "0,0"})],
}
"""What a machine may send instead of a file that was asked for: that one does not come, and says so."""


@pytest.mark.parametrize("case", HOSTILE)
def test_of_an_archive_only_files_that_were_asked_for_are_taken(wd: Path, case: str) -> None:
    into, outside = wd / "into", wd / "outside"
    into.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("mine")
    with pytest.raises(ForeignPathError):
        unpack(into, *HOSTILE[case], outside)
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "mine"
    assert [path for path in into.rglob("*") if path.is_symlink() or not path.is_file()] == []


@pytest.mark.parametrize("case", NO_FILES)
def test_what_comes_instead_of_a_file_is_told_and_not_kept(wd: Path, case: str) -> None:
    with pytest.raises(TransferError):
        unpack(wd / "into", NO_FILES[case], ["x"], wd)
    assert [path for path in wd.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("at", ["a", "a/b"])
def test_a_folder_that_becomes_a_link_while_files_come_is_not_followed(wd: Path, at: str) -> None:
    """Between the look at it and the arrival of a file, and between two files."""
    (wd / "outside/b").mkdir(parents=True)
    (wd / "into/a").mkdir(parents=True)
    names = ["a/b/1", "a/b/2", "c"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in names:
            tar.addfile(entry(name), io.BytesIO(LIE))
    stream.seek(0)
    failed: dict[str, str] = {}

    def swap(path: str, size: int) -> None:
        if path == "a/b/1":
            (wd / "into" / at).rename(wd / "before")
            (wd / "into" / at).symlink_to(wd / "outside")

    with Landing(wd / "into", names) as landing:
        archive.unpack(
            stream,
            dict.fromkeys(names, digest()),
            landing,
            swap,
            lambda path, error: failed.__setitem__(path, error.what),
        )
    assert list(failed) == ["a/b/2"]
    assert "has become a link" in failed["a/b/2"]
    assert (wd / "into/c").read_bytes() == LIE
    assert [path for path in (wd / "outside").rglob("*") if not path.is_dir()] == []


def test_links_that_were_there_before_are_used_whatever_they_are(wd: Path) -> None:
    """Which links may be used is decided before a transfer; the transfer itself only sees to it that they stay."""
    (wd / "disk/deep").mkdir(parents=True)
    (wd / "into").mkdir()
    (wd / "into/a").symlink_to(wd / "disk")
    with Landing(wd / "into", ["a/deep/x", "a/new/y"]) as landing:
        for name in ("a/deep/x", "a/new/y"):
            with landing.draft(name, 0o644) as file:
                file.write(LIE)
    assert (wd / "disk/deep/x").read_bytes() == (wd / "disk/new/y").read_bytes() == LIE


def test_what_rsync_has_left_is_not_taken_through_a_link(wd: Path) -> None:
    """A server of its own may lay down what it likes where files arrive."""
    (wd / "elsewhere").mkdir()
    (wd / "elsewhere/x").write_bytes(LIE)
    (wd / "arrived").mkdir()
    (wd / "arrived/link").symlink_to(wd / "elsewhere")
    (wd / "arrived/x").symlink_to(wd / "elsewhere/x")
    with Landing(wd / "here", ["link/x", "x"]) as landing:
        for path in ("link/x", "x"):
            assert not rsync.take(wd / "arrived", path, landing, digest())
        with pytest.raises(ForeignPathError):
            rsync.take(wd / "arrived", "../elsewhere/x", landing, digest())
    assert (wd / "elsewhere/x").read_bytes() == LIE


# --- a machine ------------------------------------------------------------------------------------------------------------


def placed_outside(wd: Path) -> list[str]:
    """A home folder beside that of the work, and what a machine may call files in it."""
    (wd / "home").mkdir()
    (wd / "home/.profile").write_text("mine\n")
    (wd / "home/.profile").chmod(0o600)
    return [f"{wd}/home/.profile", "../../home/.profile", "../../../home/.profile", "../../home/new"]


def assert_untouched(wd: Path) -> None:
    assert [path.name for path in (wd / "home").iterdir()] == [".profile"]
    assert (wd / "home/.profile").read_text() == "mine\n"


PATTERNS: dict[str, dict[str, Any]] = {
    "common *": {"backward_common_files": ["*"]},
    "in . .": {"folder": ".", "backward_files": ["."]},
    "in a *": {"backward_files": ["*"]},
}


@pytest.mark.parametrize("case", PATTERNS)
def test_a_listing_that_leads_out_ends_the_run_with_the_name(
    liar: Liar, wd: Path, submission: Callable[..., Placement], case: str
) -> None:
    """Also where the patterns would mean it; nothing is written, and it is no success."""
    names = placed_outside(wd)
    server = liar.lie("find", "sha256sum", "tar", names=names)
    given = dict(PATTERNS[case])
    task = {
        "command": "echo hi >out",
        "task_work_path": given.pop("folder", "a"),
        "backward_files": given.pop("backward_files", ["out"]),
    }
    machine = {"context_type": "SSH", "remote_profile": server.profile}
    with pytest.raises(ForeignPathError) as caught:
        submission(task, machine=machine, **given).run(check_interval_s=0.5)
    assert repr(names[0]) in str(caught.value)
    assert_untouched(wd)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("program", "size"), [("sha256sum", 10), ("sha256sum", rsync.FROM_BYTES), ("tar", 10)], ids=["sums", "rsync", "tar"]
)
def test_a_transfer_that_leads_out_is_refused(liar: Liar, wd: Path, program: str, size: int) -> None:
    """When the listing was honest, and only the checksums or the archive have more in them."""
    names = placed_outside(wd)
    root = wd / "there/root"
    root.mkdir(parents=True)
    (root / "out").write_bytes(b"x" * size)
    profile = liar.lie(program, names=names).profile
    with SSHContext(wd, str(wd / "there"), profile) as context, pytest.raises(ForeignPathError) as caught:
        context.get(str(root), ["out"], wd / "here/w")
    assert repr(names[0]) in str(caught.value)
    assert_untouched(wd)


@pytest.mark.usefixtures("transport")
def test_checksums_that_are_none_are_passed_over(liar: Liar, wd: Path) -> None:
    """A checksum becomes part of a name here while a large file travels."""
    root = wd / "there/root"
    root.mkdir(parents=True)
    (root / "out").write_bytes(LIE)
    server = liar.lie(sha256sum="echo '../../../../x  ./out'")
    profile = {**server.profile, "archive_chunk_size": 1}
    with SSHContext(wd, str(wd / "there"), profile) as context, pytest.raises(TransferError):
        context.get(str(root), ["out"], wd / "here")
    assert not (wd / "here").exists()


def contexts(wd: Path, server: Sshd) -> list[Context]:
    profile = {**server.profile, "rsync": False}
    return [LocalContext(wd, str(wd / "there"), {}), SSHContext(wd, str(wd / "there"), profile)]


def test_no_context_fetches_to_a_place_outside(liar: Liar, wd: Path) -> None:
    (wd / "there").mkdir()
    (wd / "x").write_bytes(LIE)
    for context in contexts(wd, liar.lie()):
        with context:
            for name in ("../x", str(wd / "x"), ".", "a/../../x"):
                with pytest.raises(ForeignPathError):
                    context.get(str(wd / "there"), [name], wd / "here/w", partly=True)
    assert sorted(path.name for path in wd.iterdir()) == ["there", "x"]


# --- links and modes here -------------------------------------------------------------------------------------------------


def made(
    submission: Callable[..., Placement],
    command: str,
    *patterns: str,
    machine: dict[str, Any] | None = None,
    **more: Any,
) -> Placement:
    task = {"command": command, "task_work_path": "a", "backward_files": list(patterns), **more}
    return submission(task, machine=machine or {})


@pytest.mark.parametrize("way", ["links", "copies", "SSH"])
def test_a_link_here_that_is_an_input_is_no_way_out(
    submission: Callable[..., Placement], wd: Path, liar: Liar, way: str
) -> None:
    """Inputs are often links to where they lie for all: no result is written there; inputs that are as they were are fine."""
    machine: dict[str, Any] = {"remote_profile": {"symlink": way == "links"}}
    if way == "SSH":
        machine = {"context_type": "SSH", "remote_profile": liar.lie().profile}
    (wd / "data").mkdir()
    (wd / "data/in").write_text("1")
    (wd / "here/w/a").mkdir(parents=True)
    (wd / "here/w/a/data").symlink_to(wd / "data")
    good = made(submission, "echo 3 >out", "*", machine=machine, forward_files=["data"])
    assert good.run(check_interval_s=0.5).over
    bad = made(submission, "echo 2 >data/new; echo 4 >out", "*", machine=machine, forward_files=["data"])
    with pytest.raises(staging.MissingFileError, match="a/data/new is not written: a/data here is a link"):
        bad.run(check_interval_s=0.5)
    assert [path.name for path in (wd / "data").iterdir()] == ["in"]
    assert (wd / "here/w/a/out").read_text() == "4\n"


@pytest.mark.parametrize("pattern", ["out", "out/*", "./out/new"])
def test_links_that_the_user_has_named_are_used(submission: Callable[..., Placement], wd: Path, pattern: str) -> None:
    """The task's own folder, and one that a pattern names in plain letters, may lie on another disk."""
    (wd / "disk/a").mkdir(parents=True)
    (wd / "disk/out").mkdir()
    (wd / "here/w").mkdir(parents=True)
    (wd / "here/w/a").symlink_to(wd / "disk/a")
    (wd / "disk/a/out").symlink_to(wd / "disk/out")
    assert made(submission, "mkdir -p out; echo 2 >out/new", pattern).run(check_interval_s=0.5).over
    assert (wd / "disk/out/new").read_text() == "2\n"


# Mode of the file here, of the result there, and what comes of it with the umask 027.
MODES = [
    (0o600, 0o644, 0o600),
    (0o640, 0o666, 0o640),
    (0o644, 0o600, 0o600),
    (0o755, 0o777, 0o755),
    (None, 0o777, 0o750),
]


@pytest.mark.parametrize("way", ["Local", "archive", "rsync", "large"])
def test_a_result_is_not_open_to_more_people_than_before(liar: Liar, wd: Path, way: str) -> None:
    """The mode of a file that is replaced is not widened; a new one is subject to the umask."""
    profile = {**liar.lie().profile, "rsync": way == "rsync", "archive_chunk_size": 100 if way == "large" else 0}
    root, here = wd / "there/root", wd / "here"
    root.mkdir(parents=True)
    here.mkdir()
    for number, (old, new, _) in enumerate(MODES):
        (root / f"{number}").write_bytes(b"x" * (rsync.FROM_BYTES if way == "rsync" else 1000))
        (root / f"{number}").chmod(new)
        if old is not None:
            (here / f"{number}").write_text("before")
            (here / f"{number}").chmod(old)
    context: Context = LocalContext(wd, str(wd / "there"), {})
    if way != "Local":
        context = SSHContext(wd, str(wd / "there"), profile)
    names = [str(number) for number in range(len(MODES))]
    before = os.umask(0o027)
    try:
        with context:
            assert context.get(str(root), names, here).moved == tuple(names)
    finally:
        os.umask(before)
    assert [(here / name).stat().st_mode & 0o777 for name in names] == [expected for _, _, expected in MODES]


# --- records --------------------------------------------------------------------------------------------------------------

RECORD = {
    "job": "a" * 40,
    "attempt": 0,
    "id": "7",
    "node": "n1",
    "exit_code": 0,
    "start_s": 1.0,
    "end_s": 2.0,
    "append_exit_code": None,
    "tasks": [{"hash": "b" * 40, "exit_code": 0, "start_s": 1.0, "end_s": 2.0, "node": "n1", "attempt": 0}],
}


def test_a_record_is_believed_when_each_value_is_of_its_kind() -> None:
    found = record.parse(json.dumps(RECORD).encode())
    assert found is not None
    assert (found.job_id, found.tasks[0].end_s) == ("7", 2.0)


@pytest.mark.parametrize("key", list(RECORD))
@pytest.mark.parametrize("value", ["x", True, [[1]], [{"hash": 1}], float("nan"), float("inf")])
def test_a_record_with_a_value_of_another_kind_is_none(key: str, value: Any) -> None:
    """A machine may write anything there; nothing that reads it later fails of that."""
    found = record.parse(json.dumps({**RECORD, key: value}).encode())
    assert (found is None) == (value != "x" or key not in ("job", "id", "node"))


def test_what_a_machine_calls_its_node_does_not_move_the_cursor() -> None:
    lines = "a 0 1.0 2.0 \x1b[2Jn1 0\nb 0 nan 2.0 n1 0\nc 0 1.0 inf n1 0\nd x 1 2 n1 0\ne 0 1 2 n1 0 more\n"
    found = record.parse_lines(lines)
    assert {name: result.node for name, result in found.items()} == {"a": "\\x1b[2Jn1"}
