"""Archives that come from services, of both kinds: what was asked for is taken, and nothing else can be done by them."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.contexts.base import LocalFile, TransferError
from pilotfish.launcher.contexts.members import pack_zip, take
from pilotfish.launcher.contexts.paths import ForeignPathError

Write = Callable[..., Path]
LINK, FOLDER, PIPE = stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO
_OF_TAR = {LINK: tarfile.SYMTYPE, FOLDER: tarfile.DIRTYPE, PIPE: tarfile.FIFOTYPE}


@pytest.fixture(params=["zip", "tar"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """`write((name, content[, kind]), ...)` makes an archive of just that."""

    def zip_(*entries: Any) -> Path:
        path = tmp_path / "archive"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content, *kind in entries:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = ((kind[0] if kind else stat.S_IFREG) | 0o640) << 16
                packed.writestr(entry, content)
        return path

    def tar(*entries: Any) -> Path:
        path = tmp_path / "archive"
        with tarfile.open(path, "w:gz") as packed:
            for name, content, *kind in entries:
                entry = tarfile.TarInfo(name)
                entry.mode = 0o640
                if kind:
                    entry.type, entry.linkname = _OF_TAR[kind[0]], content.decode()
                    packed.addfile(entry)
                else:
                    entry.size = len(content)
                    packed.addfile(entry, io.BytesIO(content))
        return path

    return zip_ if request.param == "zip" else tar


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def contents(home: Path) -> dict[str, bytes]:
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_what_was_asked_for_comes_and_nothing_else(write: Write, home: Path) -> None:
    """By patterns and folders; how names are spelt does not matter."""
    entries = [
        ("./a/out1", b"1"),
        ("a/x/y", b"2"),
        ("a/in", b"3"),
        ("STDOUTERR", b"4"),
        ("b/out", b"5"),
        ("d/", b"", FOLDER),
    ]
    taken = take(write(*entries), ["a/out*", "a/x", "b/../b/out"], home)
    assert sorted(taken) == ["a/out1", "a/x/y", "b/out"]
    assert contents(home) == {"a/out1": b"1", "a/x/y": b"2", "b/out": b"5"}


@pytest.mark.parametrize(
    "entry",
    [
        ("../evil", b"x"),
        ("a/../../evil", b"x"),
        ("/tmp/evil", b"x"),
        ("a\\..\\..\\evil", b"x"),
        ("a/out", b"/etc/passwd", LINK),
        ("a/out", b"", PIPE),
    ],
    ids=lambda entry: ascii(entry[0]) + ("" if len(entry) < 3 else oct(entry[2])),
)
def test_names_that_lead_out_and_what_is_no_plain_file_are_refused(write: Write, home: Path, entry: Any) -> None:
    """Before anything is written, what was asked for too."""
    with pytest.raises(ForeignPathError):
        take(write(("a/ok", b"1"), entry), ["**", "a/out", "a/ok"], home)
    assert contents(home) == {}
    assert not (home.parent / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(write: Write, home: Path) -> None:
    with pytest.raises(ForeignPathError, match="comes twice"):
        take(write(("a/out", b"1"), ("./a/out", b"2")), ["a/out"], home)
    assert contents(home) == {}


@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
def test_a_damaged_archive_gives_no_damaged_file(write: Write, home: Path, part: float) -> None:
    """Cut off, or with other bytes in the middle."""
    content = bytes(range(256)) * 2000
    archive = write(("a/out", content), ("b", b"b" * 1000))
    whole = archive.read_bytes()
    at = int(len(whole) * part)
    for broken in (whole[:at], whole[:at] + bytes(64) + whole[at + 64 :]):
        archive.write_bytes(broken)
        try:
            take(archive, ["**", "a/out", "b"], home)
        except (TransferError, ForeignPathError):
            pass
        assert all(found in (content, b"b" * 1000) for found in contents(home).values())


def test_a_link_here_leads_nothing_away(write: Write, home: Path) -> None:
    """An input that is linked is replaced, not what it points to."""
    (home.parent / "mine").write_text("mine")
    (home / "a").mkdir()
    (home / "a/out").symlink_to(home.parent / "mine")
    take(write(("a/out", b"theirs")), ["a/out"], home)
    assert (home / "a/out").read_bytes() == b"theirs"
    assert (home.parent / "mine").read_text() == "mine"


def test_the_same_files_make_the_same_archive(tmp_path: Path, home: Path) -> None:
    """So a transfer that was cut off can go on. Modes and empty folders are kept."""
    (home / "run").write_text("x" * 100)
    (home / "run").chmod(0o755)
    file = LocalFile(home / "run", "a/run", "", 100, 0o755)
    for name in ("one", "two"):
        pack_zip([file], ["b/empty", "."], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as packed:
        assert [entry.filename for entry in packed.infolist()] == ["b/empty/", "a/run"]
        assert packed.infolist()[1].external_attr >> 16 == stat.S_IFREG | 0o755
    (home / "run").write_text("y")
    with pytest.raises(TransferError, match="changed while it was sent"):
        pack_zip([file], [], tmp_path / "three")
