"""DPDispatcher's tools. Our own code uses none of them."""

from .job_status import JobStatus
from .utils import (
    RetrySignal,
    customized_script_header_template,
    generate_totp,
    get_sha256,
    hotp,
    retry,
    rsync,
    run_cmd_with_all_output,
)

__all__ = [
    "JobStatus",
    "RetrySignal",
    "customized_script_header_template",
    "generate_totp",
    "get_sha256",
    "hotp",
    "retry",
    "rsync",
    "run_cmd_with_all_output",
]
