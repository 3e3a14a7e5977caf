"""The keys of machines, resources and tasks, as trees of dargs."""

from __future__ import annotations

from ...description.resources import Resources
from ...description.task import Task
from ...submission.machine import Machine

resources_dargs = Resources.arginfo
machine_dargs = Machine.arginfo
task_dargs = Task.arginfo
