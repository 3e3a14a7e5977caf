"""Graphs of dask as calls. Imported by who asks for a scheduler (`dask_scheduler`), as it needs dask.

Each node is a call, and the futures of the nodes that it needs are its arguments: the whole graph is in the pilot at once,
which starts what is ready, and a value between two nodes need not come here. dask hands its graphs over optimized, with
chains of nodes fused into one.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

from dask._task_spec import Alias, DataNode, _execute_subgraph, convert_legacy_graph, cull
from dask.order import order

from .executor import Executor
from .future import Future, LostCallError
from .progress import Shown


def scheduler_of(executor: Executor, progress: bool) -> Callable[..., Any]:
    def get(dsk: Any, keys: Any, **_: Any) -> Any:
        """What dask calls: the values of `keys`, which may stand in lists of lists. The settings of other schedulers mean
        nothing here.
        """
        graph = convert_legacy_graph(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
        wanted = set(_flat(keys))
        calls: WeakSet[Future[Any]] = WeakSet()
        with ExitStack() as stack:
            try:
                values = _submit(executor, cull(graph, wanted), calls)
                shown = stack.enter_context(Shown(list(calls))) if progress else None
                count = len(calls)
                values = {key: values[key] for key in wanted}  # all others are let go with their last reader
                futures = [value for value in values.values() if isinstance(value, Future)]
                concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
                for future in futures:
                    _raise_failure(future)
                if shown is not None:
                    shown.end(count)
                return _nested(keys, values)
            except BaseException:  # a node has failed, or the program was interrupted: nobody wants the others
                for call in list(calls):
                    executor.interrupt(call)
                raise

    return get


def _submit(executor: Executor, graph: Mapping[Any, Any], calls: WeakSet[Future[Any]]) -> dict[Any, Any]:
    """Submit all nodes; their values, or futures."""
    values: dict[Any, Any] = {}
    places = order(graph)
    for key in sorted(graph, key=places.__getitem__):  # what a node needs comes before it
        node = graph[key]
        if isinstance(node, DataNode):
            values[key] = node.value
        elif isinstance(node, Alias):
            values[key] = values[node.target]
        else:
            needs = list(node.dependencies)
            call = executor.submit(_execute_subgraph, {key: node}, key, needs, *map(values.__getitem__, needs))
            calls.add(call)
            values[key] = call
    return values


def _raise_failure(future: Future[Any]) -> None:
    """Of a node, if it is known by now; of one whose needs have failed what these have raised."""
    failure = future.exception() if future.done() else None
    while isinstance(failure, LostCallError) and failure.__cause__ is not None:
        failure = failure.__cause__
    if failure is not None:
        raise failure


def _flat(keys: Any) -> Iterator[Any]:
    if isinstance(keys, list):
        for key in keys:
            yield from _flat(key)
    else:
        yield keys


def _nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    if isinstance(keys, list):
        return [_nested(key, values) for key in keys]
    value = values[keys]
    return value.result() if isinstance(value, Future) else value
