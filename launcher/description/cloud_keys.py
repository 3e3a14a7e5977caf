"""The keys of `remote_profile` of clouds. Names and defaults are DPDispatcher's."""

from __future__ import annotations

from .keys import REQUIRED, Key

_TIMEOUT = Key("timeout", "float", 30, "seconds to wait for an answer of the service", ours=True, least=0.1)
_IGNORE = Key(
    "ignore_exit_code",
    "bool",
    True,
    "how the script as a whole ended does not matter where each of its tasks is known to have ended well",
)
_OUTPUT = Key("output_log", "bool", False, "tell what jobs print while they run")
_BACKUP = Key("keep_backup", "bool", False, "keep the archives that came back in `backup` below `local_root`")

BOHRIUM_PROFILE = (
    Key("email", "str|null", None, "who logs in; not needed with BOHR_TICKET in the environment"),
    Key("phone", "str|null", None, "the same, for accounts without an email address"),
    Key("password", "str|null", None, "better `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`", secret=True),
    Key("program_id", "int", REQUIRED, "the project that is charged", ("project_id",)),
    Key("retry_count", "int|null", 2, "taken for DPDispatcher's files: the machine's `retry_count` counts"),
    _IGNORE,
    _BACKUP,
    Key(
        "input_data",
        "dict",
        REQUIRED,
        "goes into each job as it is: job_type, platform, scass_type or machine_type, image_name ...; `grouped` puts all jobs "
        "of a submission into one group, `output_log` tells what they print",
    ),
    _TIMEOUT,
)

OPENAPI_PROFILE = (
    Key(
        "access_key",
        "str|null",
        None,
        "better `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`; default: BOHRIUM_ACCESS_KEY or ACCESS_KEY",
        secret=True,
    ),
    Key("project_id", "int|str|null", None, "the project that is charged; default: BOHRIUM_PROJECT_ID or PROJECT_ID"),
    Key(
        "app_key",
        "str|null",
        None,
        "may be a reference like `access_key`; default: BOHRIUM_APP_KEY, APP_KEY",
        secret=True,
    ),
    Key("machine_type", "str", "", "the kind of node"),
    Key("image_address", "str", "", "the container's image"),
    Key("job_name", "str", "DP-GEN", "name of all jobs"),
    Key("platform", "str", "ali", "who runs the nodes"),
    Key("real_user_id", "int|str|null", None, "goes into each job as it is"),
    Key("session_id", "int|str|null", None, "goes into each job as it is"),
    Key("grouped", "bool", True, "all jobs of a submission are one group"),
    _IGNORE,
    _OUTPUT,
    _BACKUP,
    _TIMEOUT,
)
