"""Programs with the calls of EasyVVUQ's `QCGPJPool` and of QLauncher's `PilotJobManager`, below `pilotfish with qcg`.

The real ones take minutes to install; what they said is in the notes of the change that brought `pilotfish with`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S

POOL = '''
"""A pool whose tasks are Python modules that find their job by a variable and leave their result in a file of its name."""
import json, os, sys, time
from concurrent.futures import Executor
from qcg.pilotjob.executor_api.qcgpj_executor import QCGPJExecutor
from qcg.pilotjob.executor_api.templates.qcgpj_template import QCGPJTemplate


class Template(QCGPJTemplate):
    @staticmethod
    def template():
        text = """
            {
                'name': '${name}',
                'execution': {
                    'exec': '${exec}', 'args': ${args}, 'stdout': '${stdout}', 'stderr': '${stderr}',
                    'venv': '${venv}', 'modules': ${modules}, 'model': '${model}', 'model_opts': ${model_opts}
                },
                'resources': {'numCores': {'exact': ${numCores}}, 'numNodes': {'exact': ${numNodes}}}
            }
        """
        defaults = {'args': [], 'stdout': 'stdout', 'stderr': 'stderr', 'venv': '', 'modules': [], 'model': 'default',
                    'model_opts': {}, 'numCores': 1, 'numNodes': 1}
        return text, defaults


class Pool(Executor):
    def __init__(self):
        self.executor = QCGPJExecutor(log_level="debug", resources="2,2")

    def submit(self, number):
        return self.executor.submit(Template().template, None, exec="python3", name=number, stdout=f"out_{number}",
                                    stderr=f"err_{number}", args=["-m", "task", str(number)])

    def as_completed(self, futures):
        pending = set(futures)
        while pending:
            ended = {future for future in pending if future.done()}
            pending -= ended
            yield from ended
            time.sleep(0.01)

    def shutdown(self, **kwargs):
        return self.executor.shutdown()


with Pool() as pool:
    for future in pool.as_completed([pool.submit(number) for number in range(1, 5)]):
        for name, state in future.result().items():
            assert state == "SUCCEED", open(f"err_{name}").read()
print(sorted(json.load(open(f"result_{number}")) for number in range(1, 5)))
'''

TASK = """
import json, os, sys
import qcg.pilotjob.api.job  # what a task imports is served too
json.dump(int(sys.argv[1]) ** 2, open("result_" + os.environ["QCG_PM_EXEC_API_JOB_ID"], "w"))
"""

MANAGER = """
import sys
from qcg.pilotjob.api.errors import TimeoutElapsed
from qcg.pilotjob.api.job import Jobs
from qcg.pilotjob.api.manager import LocalManager

manager = LocalManager(["--nodes", 4])


def job(name, code, cores=1):
    args = ["-c", code]
    return dict(name=name, exec=sys.executable, args=args, model="openmpi", stdout=name, stderr="err", numCores=cores)


free = manager.resources()["free_cores"]
many = Jobs()
for number in range(free):
    many.add(**job(f"{number:05d}", "print(1)"))
many = manager.submit(many)
wide = manager.submit(Jobs().add(**job("wide", "print(2)", cores=2)))[0]
print(manager.wait4(wide, timeout=None), open("wide").read().split())  # one process, whatever the model
print(sorted(manager.wait4_any_job_finish(None) for _ in many))
slow = manager.submit(Jobs().add(**job("slow", "import time; time.sleep(1000)")))[0]
try:
    manager.wait4(slow, timeout=0.01)
except TimeoutElapsed:
    manager.cancel(slow)
print(manager.wait4_any_job_finish(60))
manager.cleanup()
manager.finish()
"""


def test_a_pool_of_templates_and_a_manager_of_single_tasks_run_as_they_are(wd: Path) -> None:
    for name, text in (("pool.py", POOL), ("task.py", TASK), ("manager.py", MANAGER)):
        (wd / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "with",
        "qcg",
        "--",
        "sh",
        "-ec",
        "python3 pool.py; python3 manager.py",
    ]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    ended = [(f"0000{number}", "SUCCEED") for number in range(4)]
    assert (done.stdout.splitlines(), done.stderr) == (
        ["[1, 4, 9, 16]", "{'wide': 'SUCCEED'} ['2']", str(ended), "('slow', 'CANCELED')"],
        "",
    )
