"""A script in DPDispatcher's terms; prints what it got. `python dpdispatcher_methods.py PACKAGE`, in an empty folder.

dpdispatcher_methods.json is what DPDispatcher 1.1.0 prints.
"""

import importlib
import json
import os
import re
import sys
import time

package = importlib.import_module(sys.argv[1])
Job, Machine, Resources, Submission, Task = (
    getattr(package, name) for name in ("Job", "Machine", "Resources", "Submission", "Task")
)

found: dict[str, object] = {}
os.makedirs("work/a")
with open("work/a/in", "w") as file:
    file.write("a")
given = {
    "batch_type": "Shell",
    "context_type": "LocalContext",
    "local_root": os.getcwd(),
    "remote_root": f"{os.getcwd()}/there",
    "remote_profile": {"symlink": False},
}
machine = Machine.load_from_dict(given)
resources = Resources.load_from_dict({"group_size": 1, "custom_flags": ["#X 1", "#X 2"], "queue_name": "q"})
task = Task(command="cat in > out; echo told", task_work_path="a", forward_files=["in"], backward_files=["out"])
task.task_name = "my job!"
submission = Submission(work_base="work", machine=machine, resources=resources)
submission.register_task(task)
submission.generate_jobs()
(job,) = submission.belonging_jobs
found["items"] = [task["command"], resources["queue_name"], submission["work_base"]]
found["names"] = [job.get_scheduler_name(128), job.get_scheduler_name(15, require_alpha_prefix=True)]
found["script name"] = job.script_file_name == f".{job.job_hash}.sub"
found["flags"] = machine.gen_script_custom_flags_lines(job)

submission.upload_jobs()
context = machine.context
code, stdin, stdout, stderr = context.block_call("cat a/in; echo bad >&2; exit 3")
found["block_call"] = [code, stdin, stdout.readlines(), stderr.read().decode()]
found["block_checkcall"] = context.block_checkcall("printf '%s' x")[1].read().decode()
try:
    context.block_checkcall("echo no >&2; exit 4")
except RuntimeError as error:
    found["error"] = re.sub("[0-9a-f]{40}", "HASH", str(error))
context.write_file("note", "text\n")
found["files"] = [context.read_file("note"), context.check_file_exists("note"), context.check_file_exists("a")]
proc = context.call("echo called; exit 5")
while not context.check_finish(proc):
    time.sleep(0.05)
code, stdout, stderr = context.get_return(proc)
found["call"] = [code, stdout.read().decode(), stderr.read().decode()]

found["before"] = [machine.check_finish_tag(job), task.has_finished_tag(context), job.fail_count, job.job_id]
job.submit_job()
found["submitted"] = [bool(job.job_id), int(job.job_state)]
while not submission.check_all_finished():
    time.sleep(0.1)
    submission.update_submission_state()
task.get_task_state(context)
found["after"] = [
    machine.check_finish_tag(job),
    task.has_finished_tag(context),
    int(task.task_state),
    int(job.job_state),
]
found["job error"] = machine.get_job_error(job)
found["failed"] = submission.failed_jobs()
submission.raise_for_failed_jobs()
submission.submission_to_json()
found["recover"] = machine.check_if_recover(submission)
found["downloaded"] = submission.try_download_result()
with open("work/a/out") as file:
    found["out"] = file.read()
static = job.serialize(if_static=True)
found["static"] = static
found["again"] = Job.deserialize(job.serialize(), machine) == job
submission.clean_jobs()
found["cleaned"] = os.listdir("there")
with open("found.json", "w") as file:
    json.dump(found, file, indent=1, sort_keys=True)
