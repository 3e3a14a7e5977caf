"""`pilotfish schema`: the JSON Schema of the files that people write."""

from __future__ import annotations

import json

import click

from ...pilot.console import echo
from ...pilot.wire.job_schema import job_file_schema
from ..description.json_schema import submission_schema
from ..machines import registry


@click.command()
@click.argument("kind", type=click.Choice(["job", "submission"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of job files or of submission files, for editors that check and complete.

    \b
    pilotfish schema job >job.schema.json
    # then, as the first line of a YAML file:
    # yaml-language-server: $schema=job.schema.json
    """
    whole = (
        job_file_schema()
        if kind == "job"
        else submission_schema({name: registry.keys(name).keys for name in registry.names()})
    )
    echo(json.dumps(whole, indent=2))
