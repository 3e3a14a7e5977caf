"""One-time passwords, digests, rsync, and tries: DPDispatcher's `utils`."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from ....contexts.shell import words
from ....contexts.ssh.totp import one_time_password
from ....description.resources import Resources
from ....job.script import from_template

_Result = TypeVar("_Result")
log = logging.getLogger("dpdispatcher")


def get_sha256(filename: str) -> str:
    """The digest of a file's content, in hex."""
    with open(filename, "rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def hotp(key: str, period: int, token_length: int = 6, digest: str = "sha1") -> str:
    """The one-time password of a counter (`period`), by RFC 4226; the key is base32. Only SHA-1 is known."""
    if digest != "sha1":
        raise ValueError(f"digest {digest!r}: only sha1 is known")
    return one_time_password(key, period, 1, token_length)


def generate_totp(secret: str, period: int = 30, token_length: int = 6) -> str:
    """The one-time password of now, by RFC 6238; the secret is base32."""
    return one_time_password(secret, time.time(), period, token_length)


def run_cmd_with_all_output(cmd: str | Sequence[str], shell: bool = True) -> tuple[int, bytes, bytes]:
    """Run a command here; (exit code, output, errors)."""
    done = subprocess.run(cmd, shell=shell, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def rsync(
    from_file: str,
    to_file: str,
    port: int = 22,
    key_filename: str | None = None,
    timeout: float = 10,
    proxy_command: str | None = None,
) -> None:
    """Copy with rsync over SSH, without questions; hosts must be known. Raises RuntimeError."""
    ssh = ["ssh", "-o", f"ConnectTimeout={timeout:g}", "-o", "BatchMode=yes", "-p", str(port), "-q"]
    ssh += ["-i", key_filename] if key_filename is not None else []
    ssh += ["-o", f"ProxyCommand={proxy_command}"] if proxy_command is not None else []
    command = ["rsync", "-rlptDz", "-e", words(ssh), "-q", "--", from_file, to_file]
    try:
        code, _, err = run_cmd_with_all_output(command, shell=False)
    except FileNotFoundError as error:
        raise RuntimeError("there is no rsync here") from error
    if code:
        raise RuntimeError(f"Failed to run {words(command)}: {err.decode(errors='replace').strip()}")


class RetrySignal(Exception):
    """Raised by a function that wants to be called once more."""


def retry(
    max_retry: int = 3, sleep: float = 60, catch_exception: type[BaseException] = RetrySignal
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """A decorator: call the function at most so often, with pauses of `sleep` seconds, while it raises `catch_exception`.

    Raises RuntimeError after the last time; ValueError for less than one time.
    """
    if max_retry < 1:
        raise ValueError(f"max_retry must be greater than 0, not {max_retry}")

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> _Result:
            errors: list[BaseException] = []
            for left in range(max_retry - 1, -1, -1):
                try:
                    return function(*args, **kwargs)
                except catch_exception as error:
                    errors.append(error)
                    log.warning("%s: %s", function.__name__, error)
                    if left:
                        time.sleep(sleep)
            raise RuntimeError(f"Failed to run {function.__name__} for {max_retry} times") from errors[-1]

        return call

    return decorate


def customized_script_header_template(filename: str, resources: Resources) -> str:
    """A header file with the keys of resources filled in. Raises DescriptionError."""
    return from_template(Path(filename).read_text(), resources)
