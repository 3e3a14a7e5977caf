"""The tools of one kind of queue, as functions."""

from __future__ import annotations

from .plugin import Plugin

_plugin = Plugin(__name__.rpartition(".")[2])
PREFIX, SUFFIX = _plugin.PREFIX, _plugin.SUFFIX
queue_test = _plugin.queue_test
normalize_job_id = _plugin.normalize_job_id
normalize_state = _plugin.normalize_state
submit = _plugin.submit
kill = _plugin.kill
queue_parser = _plugin.queue_parser
parse_strange_options = _plugin.parse_strange_options
