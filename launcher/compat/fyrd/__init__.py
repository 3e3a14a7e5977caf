"""fyrd's names in one place: `from pilotfish import fyrd`."""

from __future__ import annotations

from ....pilot.version import VERSION as __version__
from ...submission.job_options import (
    ClusterError,
    OptionsError,
    check_arguments,
    option_help,
    option_to_string,
    options_to_string,
)
from ...submission.job_options import sanitized as sanitize_arguments
from ...submission.queue_view import QueueError
from . import basic, batch_systems, conf, helpers, logme, notify, options, run
from .basic import clean, clean_dir, clean_work_dirs, get, make_job, make_job_file, submit, submit_file, wait
from .batch_systems import check_queue, get_batch_system, get_cluster_environment
from .conf import Profile, del_profile, get_option, get_profile, get_profiles, set_option, set_profile
from .helpers import jobify, parapply, parapply_summary, splitrun
from .job import Job
from .local import JobQueue, default_queue
from .options import split_keywords
from .queue import Queue
from .queue_job import QueueJob

__all__ = [
    "ClusterError",
    "Job",
    "JobQueue",
    "OptionsError",
    "Profile",
    "Queue",
    "QueueError",
    "QueueJob",
    "__version__",
    "basic",
    "batch_systems",
    "check_arguments",
    "check_queue",
    "clean",
    "clean_dir",
    "clean_work_dirs",
    "conf",
    "default_queue",
    "del_profile",
    "get",
    "get_batch_system",
    "get_cluster_environment",
    "get_option",
    "get_profile",
    "get_profiles",
    "helpers",
    "jobify",
    "logme",
    "make_job",
    "make_job_file",
    "notify",
    "option_help",
    "option_to_string",
    "options",
    "options_to_string",
    "parapply",
    "parapply_summary",
    "run",
    "sanitize_arguments",
    "set_option",
    "set_profile",
    "split_keywords",
    "splitrun",
    "submit",
    "submit_file",
    "wait",
]
