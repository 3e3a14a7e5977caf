"""Shell text is made in one place: no shell reads what users and machines name, and our lines run whatever theirs set."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.launcher.contexts import shell
from pilotfish.launcher.contexts.base import StartFilesError
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.shell import Marks, place, places, relative, relatives, sh, users, word, words
from pilotfish.launcher.job import ends
from pilotfish.launcher.job.states import JobState, Status

from ..job.test_script_modes import HOSTILE

LAUNCHER = Path(__file__).parents[3] / "launcher"
ODD = [
    "-rf",
    " x ",
    "~",
    "$HOME",
    "`id`",
    "a\nb",
    "it's",
    'a"b',
    "\\",
    "!!",
    "{a}",
    "",
    "*",
    "日本\udcff",
    "x" * 200,
    ";&|<>()",
]


def printed(text: str, cwd: Path) -> list[str]:
    done = subprocess.run(["sh", "-c", text], cwd=cwd, capture_output=True, check=True, timeout=PATIENCE_S)
    return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]


# --- text -----------------------------------------------------------------------------------------------------------------


def test_a_word_is_what_it_was_whatever_is_in_it(wd: Path) -> None:
    assert printed(sh("printf '%s\\0' {words}", words=words(ODD)), wd) == ODD
    assert [printed(sh("printf '%s\\0' {word}", word=word(each)), wd) for each in ODD] == [[each] for each in ODD]


def test_a_relative_name_is_no_option_and_is_where_the_command_runs(wd: Path) -> None:
    files = [each for each in ODD if each]
    for each in files:
        (wd / each).touch()
    (wd / "-rf").write_text("x")
    assert printed(sh("ls -d -- {files} | tr '\\n' '\\0'", files=relatives(["-rf"])), wd) == ["./-rf"]
    assert printed(sh("wc -c {file} | tr '\\n' '\\0'", file=relative("-rf")), wd) == ["1 ./-rf"]
    assert printed(sh("rm {files}", files=relatives(files)), wd) == []
    assert list(wd.iterdir()) == []


@pytest.mark.parametrize("path", ["work", "~/work", "$SCRATCH/work", "./work", "", "-x"])
def test_a_path_that_is_not_absolute_does_not_get_into_text(path: str) -> None:
    for make in (place, lambda each: places([each])):
        with pytest.raises(ValueError, match="is no path from the root folder"):
            make(path)


@pytest.mark.parametrize("path", ["../x", "/x", "", ".", "a/../../x", "a\0b"])
def test_a_relative_name_that_leads_out_does_not_get_into_text(path: str) -> None:
    with pytest.raises(ValueError, match=re.escape(ascii(path))):
        relative(path)


def test_a_string_that_has_not_said_what_it_is_does_not_get_into_text() -> None:
    with pytest.raises(TypeError, match=r"'root' must be made by word\(\), place\(\)"):
        sh("rm -rf -- {root}", root="~/work")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has a NUL"):
        word("a\0b")


@pytest.mark.parametrize(("template", "values"), [("a {one}", {}), ("a", {"one": 1}), ("{one} {two}", {"one": 1})])
def test_holes_and_values_are_the_same(template: str, values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected values for"):
        sh(template, **values)


def test_braces_of_the_shell_are_its_own_and_what_is_filled_in_is_not_filled_in_again(wd: Path) -> None:
    template = "x=1; { printf '%s\\0' ${x} {n} {text}; }; find . -maxdepth 0 -exec printf '%s\\0' {} +"
    assert printed(sh(template, n=7, text=word("{n}")), wd) == ["1", "7", "{n}", "."]


# --- how it runs ----------------------------------------------------------------------------------------------------------


def test_what_goes_to_a_login_shell_is_one_line_of_ascii() -> None:
    """Beyond ASCII the locale of that shell decides what is one character: in some a backslash is the second half of one."""
    line, head = Marks().command(sh("echo {text}\n", text=word("".join(ODD))))
    assert line.isascii()
    assert line.isprintable()
    assert "!" not in line
    assert head == b""


@pytest.mark.parametrize("stdin", [b"", b"the input\n"])
def test_text_that_is_too_long_for_a_command_line_runs(wd: Path, stdin: bytes) -> None:
    names = [f"{number:0200}" for number in range(2000)]
    command = sh("printf '%s\\n' {names}; cat", names=words(names))
    assert len(command) > 1 << 18
    done = LocalContext(wd, str(wd), {}).run(command, stdin=stdin)
    assert done.out == "".join(f"{name}\n" for name in names) + stdin.decode()
    line, head = Marks().command(command)
    assert len(line) < shell.LONGEST_LINE
    through_ssh = subprocess.run(
        ["sh", "-c", line], input=head + stdin, capture_output=True, check=True, timeout=PATIENCE_S
    )
    assert done.out.encode() in through_ssh.stdout


@pytest.mark.parametrize("line", [each for each in HOSTILE if "exit 5" not in each])
def test_our_lines_run_after_any_line_of_a_user_or_of_a_profile(
    wd: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = sh("false | true; echo $unset_variable; printf '%s\\n' a:b *.none >|out; cat ./out; exit 3")
    context = LocalContext(wd, str(wd), {})
    monkeypatch.setenv("HOME", str(wd))
    expected = (3, "\na:b\n*.none\n")
    done = context.run_in_login_shell(ours, before=[line, f"builtin cd '{wd}'"], cwd=str(wd))
    assert (done.code, done.out) == expected
    (wd / ".bash_profile").write_text(f"echo Welcome\n{line}\nbuiltin cd '{wd}'\n")
    done = context.run_in_login_shell(ours, cwd=str(wd))
    assert (done.code, done.out) == expected


@pytest.mark.parametrize("line", ["exec cat", "exit 0", "exit 3", "exec true"])
def test_a_profile_that_replaces_the_shell_is_told(wd: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(wd))
    (wd / ".bash_profile").write_text(f"echo Welcome\n{line}\n")
    with pytest.raises(StartFilesError, match="replaces or ends the shell"):
        LocalContext(wd, str(wd), {}).run_in_login_shell(sh("echo here"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~", "{home}"),
        ("~/a b", "{home}/a b"),
        ("$WORK/a", "{home}/w/a"),
        ("${WORK}/$x", "{home}/w/$x"),
        ("a/../b", "{cwd}/b"),
        ("/a/$WORK", "/a/$WORK"),
        ("a$WORK", "{cwd}/a$WORK"),
        ("$ROOT/$SUB/x/$WORK", "{home}/r/s/x/$WORK"),
    ],
)
def test_a_path_is_made_absolute_in_one_place(
    wd: Path, path: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables are filled in where they begin a path, and anywhere in `remote_root`; all else is a name."""
    home = wd / "home"
    (home / "sub").mkdir(parents=True)
    monkeypatch.chdir(home / "sub")
    for name, value in {"HOME": home, "WORK": home / "w", "ROOT": home / "r", "SUB": "s"}.items():
        monkeypatch.setenv(name, str(value))
    context = LocalContext(wd, "$ROOT/$SUB", {})
    assert context.absolute(path) == expected.format(home=home, cwd=home / "sub")


# --- nowhere else ---------------------------------------------------------------------------------------------------------

HOME_OF_SHELL_TEXT = {"contexts/shell.py", "contexts/modes.py", "description/pep723.py"}
"""The last is below it: it adds a file that it has named itself to the command of a user."""
SHELL = re.compile(r"""2>/dev/null|>&2|\s&&\s|\s\|\|\s|\$\((?!\?)|"\$\{?\w|\brm -|\bmkdir -p|\bmv -|^cd |; do """)


def _offences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    constants = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _literal(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    parameters = {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if SHELL.search(text):
                yield node.lineno, "an f-string of shell text"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("quote", "shlex.quote", "shlex.join", "Text", "shell.Text"):
            yield node.lineno, called
        if called in ("sh", "shell.sh") and not _is_template(node.args[0], constants | parameters):
            yield node.lineno, "sh() of what is no literal"
        function = node.func
        if not (isinstance(function, ast.Attribute) and function.attr == "format"):
            continue
        if _literal(function.value) and SHELL.search(ast.unparse(function.value)):
            yield node.lineno, "a template that is filled in elsewhere"


def _is_template(node: ast.expr, names: set[str]) -> bool:
    """A literal, by itself or under a name; or what a class says of its batch system, which is one."""
    return _literal(node) or isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and node.id in names)


def _literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_shell_text_is_put_together_nowhere_else() -> None:
    """`contexts/shell.py` is the only place that quotes; that `Context.run` takes only its text, the types see to."""
    found = {}
    for path in sorted(LAUNCHER.rglob("*.py")):
        name = path.relative_to(LAUNCHER).as_posix()
        offences = [] if name in HOME_OF_SHELL_TEXT else list(_offences(ast.parse(path.read_text())))
        if offences:
            found[name] = offences
    assert found == {}


def test_text_of_users_is_marked_only_where_they_write_for_a_shell() -> None:
    marked = {
        path.relative_to(LAUNCHER).as_posix()
        for path in LAUNCHER.rglob("*.py")
        if re.search(r"\.shell import .*\busers\b", path.read_text())
    }
    commands_of_users = {
        "compat/clusterjob/own_backend.py",
        "compat/clusterjob/utils.py",
        "compat/dpdispatcher/session.py",
    }
    assert marked - HOME_OF_SHELL_TEXT - commands_of_users == {"contexts/ssh/rsync.py", "submission/bound_context.py"}
    assert users("echo $HOME") == "echo $HOME"


def test_in_a_pattern_only_the_signs_of_patterns_mean_something(wd: Path) -> None:
    for each in ("a.out", "b.out", "c;x.out", "[1].err", "-n"):
        (wd / each).touch()
    told = sh("ls -d -- {files} | tr '\\n' '\\0'", files=shell.patterns(["[ab].out", "c;x*", "-?"]))
    assert printed(told, wd) == ["./-n", "./a.out", "./b.out", "./c;x.out"]
    assert "$(id)" not in shell.patterns(["$(id)"])


def test_ends_of_jobs_are_kept_below_a_home_folder_with_blanks(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their paths are in quotes, also where they stand in variables of the shell."""
    monkeypatch.setenv("PILOTFISH_HOME", str(wd / "my home"))
    context = LocalContext(wd, str(wd), {})
    kept = ends.folder_on(context, str(wd))
    assert kept.path == f"{wd}/my home/jobs"
    path, name = kept.of("a" * 40), "a" * 40
    first = Status(JobState.terminated, reason="program", exit_code=3)
    assert (
        ends.write(context, [(path, name, first, sh("touch {file}", file=shell.word(f"{wd}/tidied")))])[name].exit_code
        == 3
    )
    assert (wd / "tidied").exists(), "what is to be done with an end, in the same command"
    later = Status(JobState.finished, exit_code=0)
    assert ends.write(context, [(path, name, later, sh("true"))])[name].exit_code == 3, "what was written first stays"
    assert [ends.claim(context, f"{path}.epilogue") for _ in range(2)] == [True, False]
    assert sorted(each.name for each in Path(kept.path).iterdir()) == [f"{name}.json", f"{name}.json.epilogue"]
