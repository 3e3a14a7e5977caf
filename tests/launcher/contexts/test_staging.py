"""Which files go and which come back."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotfish.launcher.contexts import globs as staging
from pilotfish.launcher.contexts.base import RemoteFile
from pilotfish.launcher.contexts.local import LocalContext


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def sent(patterns: list[str], work: Path, prefix: str = "") -> list[str]:
    return [file.path for file in staging.forward(patterns, work, prefix)]


def fetched(patterns: list[str], names: list[str], prefix: str = "") -> tuple[list[str], list[str]]:
    return staging.backward(patterns, prefix, [RemoteFile(name, 0, 0.0) for name in names])


def test_names_patterns_folders_and_links(wd: Path) -> None:
    tree(wd, "t/in", "t/a.dat", "t/d/x", "t/d/e/y", "t/.hidden", "other")
    (wd / "t/link").symlink_to(wd / "other")
    assert sent(["in"], wd, "t") == ["t/in"]
    assert sent(["*.dat", "in", "in"], wd, "t") == ["t/a.dat", "t/in"]
    assert sent(["d"], wd, "t") == ["t/d/e/y", "t/d/x"]
    assert sent(["**/y"], wd, "t") == ["t/d/e/y"]
    assert sent(["link"], wd, "t") == ["t/link"]
    assert sent([".hidden"], wd, "t") == ["t/.hidden"]
    assert sent(["t\\in"], wd) == ["t/in"]


def test_a_name_with_signs_of_patterns_is_a_name_when_it_is_there(wd: Path) -> None:
    tree(wd, "a[1]", "a1")
    assert sent(["a[1]"], wd) == ["a[1]"]


@pytest.mark.parametrize("pattern", ["nothing", "*.none"])
def test_an_input_that_is_not_there_is_an_error(wd: Path, pattern: str) -> None:
    with pytest.raises(staging.MissingFileError, match="cannot find upload file"):
        sent([pattern], wd)


def test_a_link_that_leads_nowhere_is_an_error(wd: Path) -> None:
    (wd / "link").symlink_to(wd / "gone")
    with pytest.raises(staging.MissingFileError, match="leads nowhere"):
        sent(["link"], wd)


def test_two_different_files_for_one_place_are_an_error(wd: Path) -> None:
    tree(wd, "one/x", "two/x")
    (wd / "two/x").write_text("other")
    files = [staging.forward(["x"], wd / name, "") for name in ("one", "two")]
    assert len(staging.merge([files[0], files[0]])) == 1
    with pytest.raises(staging.ConflictError):
        staging.merge(files)


def test_digests_follow_the_content(wd: Path) -> None:
    tree(wd, "x")
    first = staging.digest(wd / "x")
    (wd / "x").write_text("longer than before")
    assert staging.digest(wd / "x") != first


def test_what_comes_back() -> None:
    names = ["t/out", "t/a.dat", "t/d/x.dat", "t/d/e/y", "t/.h", "u/out"]
    assert fetched(["out"], names, "t/") == (["t/out"], [])
    assert fetched(["*.dat"], names, "t") == (["t/a.dat"], [])
    assert fetched(["**/*.dat"], names, "t") == (["t/a.dat", "t/d/x.dat"], [])
    assert fetched(["d"], names, "t") == (["t/d/e/y", "t/d/x.dat"], [])
    assert fetched(["./d/x.dat", "none", "n*"], names, "t") == (["t/d/x.dat"], ["none", "n*"])
    assert fetched([".h", "*"], names, "t")[0] == ["t/.h", "t/a.dat", "t/d/e/y", "t/d/x.dat", "t/out"]


NAMES = st.sampled_from(["a", "b1", ".h", "c.dat"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6)
PARTS = st.sampled_from(["a", "*", "**", "?", "b[0-9]", "*.dat", "[!a]*", ".h"])


@settings(deadline=None, max_examples=150)
@example(["a"], "a/**")
@given(PATHS, st.lists(PARTS, min_size=1, max_size=3).map("/".join))
def test_patterns_mean_what_pythons_glob_means(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], pattern: str
) -> None:
    """On a listing of the machine as in a folder here: files themselves, and files of folders that the pattern means."""
    folder = tmp_path_factory.mktemp("tree")
    for path in paths:
        try:
            tree(folder, path)
        except OSError:
            continue  # one name is another's folder
    listing = LocalContext(folder, None, {}).list_files(str(folder), ["**"])
    found, _ = staging.backward([pattern], "", listing)
    if (folder / pattern).exists():
        return  # a literal name wins
    # Of `a/**` Python also makes `a/` where `a` is a file; no shell does.
    names = [name for name in glob.glob(pattern, root_dir=folder, recursive=True) if name]
    meant = [name.rstrip("/") for name in names if not name.endswith("/") or (folder / name).is_dir()]
    expected = {
        file.path for file in listing for name in meant if file.path == name or file.path.startswith(f"{name}/")
    }
    hidden = {path for path in expected if any(part.startswith(".") for part in path.split("/"))}
    assert set(found) - hidden == expected - hidden


def test_marks_of_failed_downloads_are_plain_names() -> None:
    assert staging.failure_mark("a b/*.dat") == "tag_failure_download_a_b__.dat"
    assert os.sep not in staging.failure_mark("x/y")
