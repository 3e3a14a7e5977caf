"""Every example of the documentation runs as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE_S

from pilotfish import Machine
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.pilot.wire.describe import describe_jobs

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "coming-from").glob("*.md")),
]
EXAMPLES = ROOT / "docs" / "examples"


def _blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [(f"{page.name}-{number}", block) for number, block in enumerate(blocks)]
    return found


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What examples leave for later does not get among what the user has. The machine `cluster` is this one."""
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    machines = tmp_path / "config/pilotfish/machines"
    machines.mkdir(parents=True)
    here = {
        "batch_type": "Shell",
        "context_type": "Local",
        "local_root": str(tmp_path),
        "remote_root": str(tmp_path / "there"),
    }
    (machines / "cluster.json").write_text(json.dumps(here))


def _run(command: list[str], wd: Path) -> str:
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "code"), _blocks("python"), ids=[name for name, _ in _blocks("python")])
def test_python_in_the_text_runs(name: str, code: str, wd: Path) -> None:
    (wd / "example.py").write_text(code)
    _run([sys.executable, "example.py"], wd)


OLD_SYSTEMS = {
    "qcg.md": ("qcg", "'SUCCEED'"),
    "dpdispatcher.md": ("dpdispatcher", "['3', '3']"),
    "clusterjob.md": ("clusterjob", "hello from hello"),
    "fyrd.md": ("fyrd", "one\n 12"),
}
"""Pages on an old system, whose scripts are there before and after the change: its name, and what they print."""


OTHER_EXECUTORS = ("concurrent", "parsl", "executorlib", "submitit", "dask")


@pytest.mark.parametrize("system", OTHER_EXECUTORS)
def test_the_same_program_for_another_executor(system: str, wd: Path) -> None:
    """Ours gives the same with each of them; theirs is Python, and runs where nothing has to be installed for it."""
    before, after = (_blocks(f'python title="{title}-{system}.py"')[0][1] for title in ("before", "after"))
    compile(before, f"before-{system}.py", "exec")
    for code in (before, after) if system == "concurrent" else (after,):
        (wd / "script.py").write_text(code)
        assert _run([sys.executable, "script.py"], wd) == "0.01\n"


@pytest.mark.parametrize("page", OLD_SYSTEMS)
def test_the_script_of_an_old_system_runs_before_and_after_the_change(page: str, wd: Path) -> None:
    (before,), (after,) = (
        [code for name, code in _blocks(f'python title="{title}.py"') if name.startswith(page)]
        for title in ("before", "after")
    )
    system, printed = OLD_SYSTEMS[page]
    for code, prefix in ((before, ["with", system, "--", sys.executable]), (after, None)):
        (wd / "script.py").write_text(code)
        command = (
            [sys.executable, "script.py"]
            if prefix is None
            else [sys.executable, "-m", "pilotfish", *prefix, "script.py"]
        )
        assert printed in _run(command, wd)
        (wd / "sum").unlink(missing_ok=True)


MODEL_EXAMPLES = [code for name, code in _blocks("yaml") if name.startswith("execution-models")]
MODEL_LAUNCHERS = {"default": "", "threads": "", "openmpi": "mpirun.openmpi", "mpich": "mpiexec.hydra"}
"""Models whose example runs everywhere, or where this program is; the others need a cluster, and are only described."""


@pytest.mark.usefixtures("mpi_environ")
@pytest.mark.parametrize("block", MODEL_EXAMPLES, ids=[yaml.safe_load(block)[0]["name"] for block in MODEL_EXAMPLES])
def test_an_example_of_each_execution_model(block: str, wd: Path) -> None:
    (job,) = describe_jobs(yaml.safe_load(block), None)
    launcher = MODEL_LAUNCHERS.get(job.execution.model or "default")
    if launcher is None:
        return
    if launcher and shutil.which(launcher) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"not installed: {launcher}")
    (wd / "jobs.yaml").write_text(block)
    _run([sys.executable, "-m", "pilotfish", "run", "jobs.yaml", "--nodes", "2,2"], wd)
    assert (wd / f"{job.name}.out").read_text()


def test_the_first_example_gives_its_hundred_files(wd: Path) -> None:
    shutil.copy(EXAMPLES / "first.py", wd)
    assert "{'hello': 'SUCCEED'}" in _run([sys.executable, "first.py"], wd)
    assert len(list((wd / "out").iterdir())) == 100


def test_the_batch_script_serves_its_requests_and_ends(wd: Path) -> None:
    for name in ("batch.sh", "requests.json"):
        shutil.copy(EXAMPLES / name, wd)
    script = (wd / "batch.sh").read_text().replace("pilotfish service", f"{sys.executable} -m pilotfish service")
    (wd / "batch.sh").write_text(script)
    _run(["bash", "batch.sh"], wd)
    assert (wd / "run" / "count-7.txt").read_text() == "1 cores\n"
    (report,) = (wd / "run").glob(".qcgpjm-service-*/jobs.report")
    assert len(report.read_text().splitlines()) == 21


def test_the_picture_comes_out(wd: Path) -> None:
    """The demo, with fewer tiles."""
    for name in ("mandelbrot.py", "mandelbrot.yaml"):
        shutil.copy(EXAMPLES / name, wd)
    program = wd / "mandelbrot.py"
    program.write_text(program.read_text().replace("TILES = 25", "TILES = 5"))
    jobs = wd / "mandelbrot.yaml"
    jobs.write_text(jobs.read_text().replace("625", "25"))
    summary = json.loads(_run([sys.executable, "-m", "pilotfish", "run", "mandelbrot.yaml", "--json"], wd))
    assert (summary["tasks"], summary["failed"]) == (26, 0)
    assert (wd / "mandelbrot.png").read_bytes().startswith(b"\x89PNG")


def test_the_yaml_of_the_first_page_is_that_of_the_example() -> None:
    (block,) = [code for name, code in _blocks("yaml") if name.startswith("index.md")]
    lines = [line for line in block.splitlines() if "name:" in line]
    assert lines == [line for line in (EXAMPLES / "mandelbrot.yaml").read_text().splitlines() if "name:" in line]


def test_the_script_that_submits_itself_again_is_that_of_the_example() -> None:
    """It runs on a real Slurm in tests/cluster/test_slurm_end.py."""
    assert (EXAMPLES / "resubmit.sh").read_text() in (ROOT / "docs" / "batch.md").read_text()


LAUNCHER_FILES = [json.loads(code) for name, code in _blocks("json") if name.startswith("launcher.md")]


def test_the_first_submission_runs_as_it_stands(wd: Path) -> None:
    for name, text in (("a", "one two three"), ("b", "four five")):
        (wd / "cases" / name).mkdir(parents=True)
        (wd / "cases" / name / "words").write_text(text)
    (wd / "run.json").write_text(json.dumps(LAUNCHER_FILES[0]))
    _run([sys.executable, "-m", "pilotfish", "submit", "run.json"], wd)
    assert [(wd / "cases" / name / "count").read_text().strip() for name in "ab"] == ["3", "2"]


def test_the_other_submission_files_load() -> None:
    _, machine, with_pilot, *clouds = LAUNCHER_FILES
    found = parse_submission(with_pilot | {"machine": machine})
    assert (found.machine.batch_type, found.tasks[1].dependencies) == ("Slurm", ["prepare"])
    for cloud in clouds:
        assert Machine.load_from_dict(cloud).batch_type == cloud["batch_type"]


def test_every_error_code_has_its_entry() -> None:
    """`troubleshooting.md` is sorted by codes: each that the code knows is a heading there, and no other."""
    declared = {
        code
        for folder in ("pilot", "api", "launcher")
        for source in (ROOT / folder).rglob("*.py")
        for code in re.findall(r'^    code = "([a-z-]+)"$', source.read_text(), re.MULTILINE)
    }
    headings = re.findall(r"^### (.*)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert {code for heading in headings for code in re.findall("`([a-z-]+)`", heading)} == declared


def test_the_page_about_reports_runs_word_for_word(wd: Path) -> None:
    """All its shell blocks in one folder; the files that they name are there at the end."""
    blocks = [block for name, block in _blocks("sh") if name.startswith("report.md")]
    (wd / "bin").mkdir()
    (wd / "bin" / "pilotfish").symlink_to(Path(sys.executable).with_name("pilotfish"))
    script = "\n".join(["set -e", f"export PATH={wd}/bin:$PATH", *blocks])
    out = _run(["bash", "-c", script], wd)
    assert "total jobs: 8" in out
    assert "state: FAILED (1)" in out
    assert [(wd / name).stat().st_size > 0 for name in ("sweep.html", "both.html", "sweep.svg", "tasks.csv")] == [
        True
    ] * 4


def test_the_page_about_looking_runs_word_for_word(wd: Path, wait_until: Callable[..., None]) -> None:
    """Its commands one block after another, but for the number of the port; the run is not finished when the second begins."""
    blocks = [code.replace("9400", "0") for name, code in _blocks("sh") if name.startswith("looking.md")]
    (wd / "pilotfish").write_text(f'#!/bin/sh\nexec {sys.executable} -m pilotfish "$@"\n')
    (wd / "pilotfish").chmod(0o755)
    environ = {**os.environ, "PATH": f"{wd}:{os.environ['PATH']}"}

    def shell(code: str) -> str:
        with open(wd / "said", "w+") as said:  # not a pipe, which what goes on behind would keep open
            command = ["bash", "-euc", code]
            done = subprocess.run(
                command, cwd=wd, env=environ, stdout=said, stderr=said, timeout=PATIENCE_S, check=False
            )
            text = (wd / "said").read_text()
        assert done.returncode == 0, f"{code}\n{text}"
        return text

    shell(blocks[0])

    def says(pattern: str, text: str, count: int = 1) -> bool:
        return sum(file.read_text().count(text) for file in wd.glob(pattern)) >= count

    wait_until(lambda: says(".qcgpjm-*/service.log", "agent.ready", 2), "both nodes")
    wait_until(lambda: says("told", "failure: "), "the first failure")
    texts = [shell(block) for block in blocks[1:]]
    assert re.search(r"40 tasks: \d+ done, [1-9]\d* failed, \d running, \d+ waiting", texts[0])
    assert "residual too large" in texts[0]
    (shown,) = (code for name, code in _blocks("text") if name.startswith("looking.md"))
    explained = re.sub(r"task:\d+ and what needs the same \(\d+", "task:8 and what needs the same (32", texts[2])
    assert shown in explained
    assert re.search(r"^pilotfish_tasks_running [0-8]$", texts[3], re.MULTILINE)
    assert "end: pilotfish" in texts[4]
    events = [json.loads(line) for line in (wd / "events.jsonl").read_text().splitlines()]
    assert (events[0]["seq"], events[0]["version"]) == (1, 1)


def test_every_metric_and_variable_is_on_the_page_about_looking() -> None:
    page = (ROOT / "docs" / "looking.md").read_text()
    source = (ROOT / "pilot" / "manager" / "metrics.py").read_text()
    names = re.findall(r'Family\(\s*"(pilotfish_[a-z_]+)", "([a-z]+)"', source)
    assert len(names) > 10
    missing = [
        name for name, kind in names if f"`{name}{ {'counter': '_total', 'info': '_info'}.get(kind, '') }`" not in page
    ]
    assert missing == []
    variables = re.findall(r'"([A-Z_]{3,})"', (ROOT / "pilot" / "manager" / "notices.py").read_text())
    assert [name for name in variables if f"_{name}`" not in page] == []


def test_the_picture_of_top_can_be_drawn(wd: Path) -> None:
    program = ROOT / "docs" / "pictures" / "top.py"
    _run([sys.executable, str(program), str(wd / "top.svg")], wd)
    drawn = (wd / "top.svg").read_text()
    assert "node1" in drawn
    assert "url(http" not in drawn.replace('"', "")
