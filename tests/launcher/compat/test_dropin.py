"""Programs of the old systems run below `pilotfish with` as they are, and so does all that they start."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.launcher.cli.with_names import with_names
from pilotfish.launcher.compat.dropin import commands, environment
from pilotfish.launcher.compat.dropin.environment import START
from pilotfish.launcher.compat.dropin.environment import commands as folder_of_commands
from pilotfish.launcher.compat.dropin.start import sitecustomize
from pilotfish.launcher.compat.dropin.tables import PARTS, SYSTEMS
from pilotfish.pilot.model.errors import UsageError

OTHER_PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
"""That of which our environment was made: of the same version, and without Pilotfish."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(SYSTEMS, WORDS...)`: `pilotfish with SYSTEMS -- WORDS` in `wd`, with few variables of this process."""
    keep = {
        name: os.environ[name] for name in ("PATH", "HOME", "PILOTFISH_HOME", "PILOTFISH_TEST") if name in os.environ
    }

    def call(systems: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pilotfish", "with", *systems.split(), "--", *words]
        return subprocess.run(
            command, cwd=wd, env={**keep, **more}, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    return call


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- the program and what it starts -----------------------------------------------------------------------------------


def test_all_modules_of_the_tables_can_be_imported_and_the_documented_names_are_in_them(run: Run, wd: Path) -> None:
    names = {
        "qcg.pilotjob.api.manager": "Manager LocalManager TimeStamp",
        "qcg.pilotjob.api.job": "Jobs MAX_ITERATIONS",
        "qcg.pilotjob.api.jobinfo": "JobInfo",
        "qcg.pilotjob.api.errors": "QCGPJMAError InternalError InvalidJobDescriptionError JobNotDefinedError "
        "ConnectionError WrongArgumentsError FileError ServiceError TimeoutElapsed",
        "qcg.pilotjob.executor_api.qcgpj_executor": "QCGPJExecutor",
        "qcg.pilotjob.executor_api.qcgpj_future": "QCGPJFuture",
        "qcg.pilotjob.executor_api.templates.basic_template": "BasicTemplate",
        "qcg.pilotjob.executor_api.templates.qcgpj_template": "QCGPJTemplate",
        "qcg.pilotjob.service": "QCGPMService QCGPMServiceProcess",
        "qcg.pilotjob.utils.auxdir": "is_aux_dir find_single_aux_dir find_latest_aux_dir",
        "dpdispatcher": "Machine Resources Task Submission Job info __version__",
        "dpdispatcher.machine": "Machine",
        "dpdispatcher.submission": "Submission Job Task Resources",
        "dpdispatcher.machines.slurm": "Slurm",
        "dpdispatcher.contexts.ssh_context": "SSHContext",
        "dpdispatcher.base_context": "BaseContext",
        "clusterjob": "JobScript AsyncResult __version__",
        "fyrd": "Job Queue submit wait get clean jobify __version__",
        "dpdispatcher.utils.utils": "get_sha256",
        "dpdispatcher.dlog": "dlog",
        "clusterjob.status": "STATUS_CODES",
        "clusterjob.utils": "split_seq",
        "clusterjob.backends.slurm": "SlurmBackend",
        "fyrd.queue": "Queue QueueError GOOD_STATES",
        "fyrd.logme": "log MIN_LEVEL",
        "fyrd.basic": "submit make_job make_job_file clean wait get",
        "fyrd.conf": "get_profile set_profile",
    }
    write(
        wd / "names.py",
        f"""
from importlib import import_module
for module, names in {names!r}.items():
    for name in names.split():
        getattr(import_module(module), name)
for module in {list(PARTS)!r}:
    import_module(module)
import fyrd, dpdispatcher
import fyrd.logme, pilotfish.launcher.compat.fyrd.logme as ours
fyrd.logme.MIN_LEVEL = fyrd.queue.MODE = "debug"  # has its effect in ours
assert ours.MIN_LEVEL == fyrd.batch_systems.MODE == "debug"
assert fyrd.queue.Queue is fyrd.Queue and dpdispatcher.machine.Machine is dpdispatcher.Machine
exec("from qcg.pilotjob.api.manager import *"), LocalManager, Manager
""",
    )
    assert run("qcg dpdispatcher clusterjob fyrd", "python3", "names.py").stderr == ""


def test_the_program_takes_the_place_of_the_command(run: Run, wd: Path) -> None:
    """So its exit code and signals are seen as those of any program, and Ctrl-C needs nobody who passes it on."""
    write(wd / "program.sh", "trap 'exit 5' TERM; echo $$; kill -TERM $$; exit 6")
    command = [sys.executable, "-m", "pilotfish", "with", "qcg", "--", "sh", "program.sh"]
    process = subprocess.Popen(command, cwd=wd, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (int(out), process.returncode) == (process.pid, 5)
    assert run("qcg", "sh", "-c", "kill -KILL $$").returncode == -signal.SIGKILL


def test_what_the_program_starts_has_the_names_too_also_in_a_python_without_pilotfish(run: Run) -> None:
    code = "from qcg.pilotjob.api.manager import LocalManager as it; print(it.__module__)"
    assert subprocess.run([OTHER_PYTHON, "-c", "import pilotfish"], capture_output=True, check=False).returncode
    done = run("qcg", "sh", "-c", f'{OTHER_PYTHON} -c "{code}"; command -v qcg-pm-service')
    assert (done.stdout.splitlines(), done.stderr) == (
        ["pilotfish.api.local", str(folder_of_commands("qcg") / "qcg-pm-service")],
        "",
    )


def test_a_pilot_runs_on_the_python_of_pilotfish_whoever_starts_it(run: Run) -> None:
    """Agents on other nodes must find it without what the program's Python has only lent."""
    code = """
from qcg.pilotjob.api.manager import LocalManager
manager = LocalManager(["--nodes", 1])
print(manager.system_status()["System"]["Python"])
manager.finish()
"""
    done = run("qcg", str(OTHER_PYTHON), "-c", code)
    assert (done.stdout, done.stderr) == (f"{sys.executable}\n", "")


ORIGINAL = "raise SystemExit('this is the original')"


def test_ours_wins_over_an_original_wherever_it_is_installed(run: Run, wd: Path) -> None:
    write(wd / "qcg" / "pilotjob" / "api" / "job.py", ORIGINAL)
    write(wd / "qcg" / "other.py", "shared = True")
    write(wd / "site" / "fyrd" / "__init__.py", ORIGINAL)
    write(wd / "program.py", "import qcg.other, fyrd\nfrom qcg.pilotjob.api.job import Jobs\nprint(Jobs.__module__)")
    done = run("qcg fyrd", "python3", "program.py", PYTHONPATH=str(wd / "site"))
    assert (done.stdout, done.stderr) == ("pilotfish.api.jobs\n", "")


def test_an_internal_module_is_the_original_s_where_that_is_installed_and_else_an_error(run: Run, wd: Path) -> None:
    write(wd / "site" / "qcg" / "pilotjob" / "joblist.py", "from qcg.pilotjob.api.job import Jobs as ours")
    code = "from qcg.pilotjob.joblist import ours; print(ours.__module__)"
    assert run("qcg", "python3", "-c", code, PYTHONPATH=str(wd / "site")).stdout == "pilotfish.api.jobs\n"
    assert run("qcg", "python3", "-c", code).stderr.splitlines()[-1] == (
        "ModuleNotFoundError: No module named 'qcg.pilotjob.joblist': Pilotfish serves the documented modules of "
        "qcg-pilotjob 0.14.2, and the original is not installed here"
    )


def test_the_program_sees_its_own_sitecustomize_and_a_module_path_without_ours(run: Run, wd: Path) -> None:
    write(wd / "site" / "sitecustomize.py", "import builtins; builtins.mine = __file__")
    code = "import sys; print(mine, [entry for entry in sys.path if 'dropin' in entry])"
    done = run("qcg", "python3", "-c", code, PYTHONPATH=str(wd / "site"))
    assert (done.stdout, done.stderr) == (f"{wd}/site/sitecustomize.py []\n", "")


def test_a_python_starts_without_loading_anything_of_pilotfish(run: Run) -> None:
    code = "import sys; print([name for name in sys.modules if name.startswith('pilotfish')])"
    assert run("qcg dpdispatcher", str(OTHER_PYTHON), "-c", code).stdout == "[]\n"


def test_the_version_of_the_names_is_told(run: Run) -> None:
    code = "import importlib.metadata as m, dpdispatcher; print(m.version('qcg-pilotjob'), dpdispatcher.__version__)"
    assert run("qcg dpdispatcher", "python3", "-c", code).stdout == "0.14.2 1.1.0\n"


def test_a_python_that_is_too_old_says_so_instead_of_taking_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    finder = sitecustomize.OldNames(["qcg"])
    assert finder.find_spec("json") is None
    with pytest.raises(
        ImportError, match=r"to serve qcg\.pilotjob, needs Python 3\.10 or newer, and .* is Python 3\.9"
    ):
        finder.find_spec("qcg.pilotjob")


def test_all_that_pilotfish_imports_is_lent() -> None:
    """By what the installed distributions say of each other; extras and other platforms left out."""
    wanted, lent = ["pilotfish"], set()
    while wanted:
        name = wanted.pop()
        for line in importlib.metadata.requires(name) or ():
            required = re.split(r"[^\w.-]", line)[0]
            if ";" in line or required in lent:
                continue
            lent.add(required)
            wanted.append(required)
    tops = importlib.metadata.packages_distributions()
    by_distribution = {name: top for top, names in tops.items() for name in names if top in sitecustomize.REQUIREMENTS}
    assert {name for name in lent if name.lower() not in map(str.lower, by_distribution)} == set()


def test_several_systems_may_be_added_one_after_the_other() -> None:
    first = environment(["qcg"], {"PATH": "/bin", "PYTHONPATH": "/mine"})
    second = environment(["fyrd", "qcg"], first)
    assert second["PILOTFISH_DROPIN"] == "qcg,fyrd"
    assert second["PYTHONPATH"] == f"{START}:/mine"
    assert second["PATH"].split(":") == [str(folder_of_commands("qcg")), str(folder_of_commands("fyrd")), "/bin"]


# --- what cannot be run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["qgc", "--", "true"], "qgc: is no old system that Pilotfish stands in for; write qcg"),
        (["qcg", "python", "x.py"], "no program is named; put -- before the program: pilotfish with qcg -- PROGRAM"),
        (["qcg", "--"], "no program is named; pilotfish with qcg -- PROGRAM"),
        (["--", "true"], "no program is named; put -- before the program: pilotfish with SYSTEM -- PROGRAM"),
        (["qcg", "--", "./nothing"], "./nothing: there is no such program; give its path, or add its folder to PATH"),
        (["qcg", "--", "/bin/sh/x"], "/bin/sh/x: there is no such program; give its path, or add its folder to PATH"),
    ],
)
def test_wrong_words_are_refused_in_one_line_that_says_what_to_write(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as error:
        with_names.main(words, standalone_mode=False)
    assert str(error.value) == text


# --- in a process that runs already -----------------------------------------------------------------------------------


def test_enable_serves_the_names_in_this_process_and_in_what_it_starts(wd: Path) -> None:
    code = """
import subprocess, sys
from pilotfish import dropin
dropin.enable("qcg")
dropin.enable("qcg", "fyrd")
import fyrd
from qcg.pilotjob.api.job import Jobs
child = "import qcg.pilotjob.api.job as it; print(it.Jobs.__module__)"
print(Jobs.__module__, fyrd.Job.__name__, subprocess.check_output([sys.executable, "-c", child], text=True))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=wd, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["pilotfish.api.jobs", "Job", "pilotfish.api.jobs"], "")


def test_enable_after_an_import_of_the_original_is_refused(wd: Path) -> None:
    write(wd / "fyrd.py", "")
    code = "import fyrd\nfrom pilotfish import dropin\ndropin.enable('fyrd')"
    done = subprocess.run([sys.executable, "-c", code], cwd=wd, capture_output=True, text=True, check=False)
    text = "fyrd: is imported already, from the original; enable before the first import of it"
    assert text in done.stderr.splitlines()[-1]


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words", "ours"),
    [
        ("dpdisp", "run case.py --allow-ref", "script case.py --allow-ref"),
        ("dpdisp", "submit a.json --exit-on-submit --no-clean", "submit a.json --detach --clean never"),
        ("dpdisp", "submission 3f --download-finished-task", "submissions download 3f"),
        (
            "dpdisp",
            "submission 3f --clean --reset-fail-count",
            "submissions watch 3f --retry-failed; submissions clean 3f",
        ),
        (
            "fyrd",
            "run -c 2 -t 1:00:00 -w -l -s echo {x}",
            "job run --cores 2 --time 1:00:00 --wait --clean --simple -- echo {x}",
        ),
        ("fyrd", "run -d -x new:old:a:b gzip a b", "job run --dry-run --extra-vars new:old:a:b -- gzip a b"),
        ("fyrd", "sub -p long a.sh b.sh", "job submit --profile long -- a.sh b.sh"),
        ("fyrd", "wait -u ann,bob 7", "job wait --user ann --user bob 7"),
        ("fyrd", "q -a -p long short -r -l", "job queue --partition long --partition short --all --ids --running"),
        ("fyrd", "prof show", "job profile list"),
        ("fyrd", "prof show -n long", "job profile show long"),
        ("fyrd", "prof add long cores:8 time:2-00:00:00", "job profile create long cores=8 time=2-00:00:00"),
        ("fyrd", "prof alter long cores:4", "job profile edit long cores=4"),
        ("fyrd", "prof remove-option long mem", "job profile edit long --unset mem"),
        ("fyrd", "prof del long", "job profile remove long"),
        ("fyrd", "keys -l", "job keywords --names"),
        ("clean-job-files", "-o -n run", "job clean --outputs --yes run"),
        ("frun", "true", "job run -- true"),
        ("myq", "-c", "job queue --count"),
        ("monitor-jobs", "-u ann -j 1 2", "job wait --user ann 1 2"),
    ],
)
def test_a_command_of_an_old_system_is_one_of_ours(command: str, words: str, ours: str) -> None:
    assert "; ".join(map(" ".join, commands.TRANSLATED[command](words.split()))) == ours


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("dpdisp gui", "install dpgui"),
        ("dpdisp submission 3f", "name some of --download-terminated-log"),
        ("dpdisp submit a --unknown", "unrecognized arguments: --unknown"),
        ("fyrd conf show", "options are in Pilotfish's own files"),
        ("fyrd local start", "there is no server"),
        ("monitor-jobs -p long", "pilotfish job queue -p PARTITION -l | xargs"),
    ],
)
def test_what_a_command_cannot_do_is_refused(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *words = command.split()
    with pytest.raises(SystemExit) as ended:
        commands.TRANSLATED[name](words)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_modules_that_are_commands_run_with_m(run: Run, wd: Path) -> None:
    service = "python3 -m qcg.pilotjob.service --help | head -n 1"
    dpdisp = "python3 -m dpdispatcher gui; echo $?; python3 -m dpdispatcher.machine"
    done = run("qcg dpdispatcher", "sh", "-c", f"{service}; {dpdisp}")
    assert done.stdout == "Usage: pilotfish service [OPTIONS]\n2\n"
    assert "dpdisp: error: gui is DP-GUI" in done.stderr
    assert done.stderr.endswith("dpdispatcher.machine is no program\n")


def test_each_script_is_executable_and_knows_its_command() -> None:
    for system in SYSTEMS:
        for script in folder_of_commands(system).iterdir():
            assert os.access(script, os.X_OK)
            assert script.name in commands.NAMES
