"""What a command answers when it cannot do what it was asked."""

from __future__ import annotations

_USAGE = 255
"""What getopt's complaints end Slurm's commands with (-1)."""


class Refusal(Exception):
    """The text goes to stderr as it is; `hint`: the command whose --help is named after it."""

    def __init__(self, text: str, code: int = 0, hint: str = "") -> None:
        super().__init__(text)
        self.text = text + (f'\nTry "{hint} --help" for more information' if hint else "")
        self.code = code or (_USAGE if hint else 1)


def bad_value(text: str) -> Refusal:
    """As sbatch says that it cannot read the value of an option."""
    return Refusal(f"sbatch: error: {text}", _USAGE)


def failed_submit(why: str, command: str = "sbatch", before: str = "") -> Refusal:
    """As sbatch says that the controller has refused the job; `before`: a line of its own above."""
    what = "Batch job submission failed" if command == "sbatch" else "Unable to allocate resources"
    first = f"{command}: error: {before}\n" if before else ""
    return Refusal(f"{first}{command}: error: {what}: {why}")
