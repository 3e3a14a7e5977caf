"""`--only EXPR`: which tasks, in a small language that looks like Python and is never run as such.

    alpha > 0.3 and state == "FAILED"
    code in (137, 139) or "memory" in reason
    glob(task, "mesh-*:1?") and not node == "n3"

There are the members of TaskRow, `name` (of the job), `index` and `code`, and the parameters of the run, which are numbers
where their text is one; a parameter with the name of a member is `param.NAME`. A comparison with what a task does not have (the
exit code of one that has not ended) is false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from ..pilot.model.errors import UsageError
from .task_records import NOT_ENDED, TaskRow

Values = Mapping[str, Any]
_Term = Callable[[Values], Any]

MEMBERS = (
    *("task", "name", "index", "state", "code", "exit_code", "reason", "node", "seconds", "started", "ended"),
    *("cpu_s", "max_rss_mib", "attempts"),
)
_PARAM = "param"
_MOST_SIGNS = 10_000
_ORDER: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_REMEDY = 'write something like alpha > 0.3 and state == "FAILED"'


class Selection:
    """An expression over tasks whose parameters are called `parameters`. Raises UsageError for what is none.

    `where`: the option, for errors.
    """

    def __init__(self, text: str, parameters: Collection[str], where: str = "--only") -> None:
        self._where = where
        self._parameters = tuple(parameters)
        try:
            if len(text) > _MOST_SIGNS:
                raise ValueError("too long")
            tree = ast.parse(text.strip(), mode="eval")
            self._wants = self._term(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"{text[:80]!r} cannot be read: {reason}", where=where, remedy=_REMEDY) from None

    def wants(self, row: TaskRow) -> bool:
        """Raises UsageError for values that cannot be compared."""
        job, _, index = row.task.partition(":")
        values = row._asdict() | {"name": job, "index": int(index) if index else None, "code": row.exit_code}
        return self._decides(values, row.params)

    def wants_new(self, job: str, index: int | None, params: Mapping[str, str]) -> bool:
        """The same of a task that has not run."""
        task = job if index is None else f"{job}:{index}"
        return self._decides({"task": task, "name": job, "index": index, "state": NOT_ENDED, "reason": ""}, params)

    def _decides(self, values: dict[str, Any], params: Mapping[str, str]) -> bool:
        for name, text in params.items():
            values[f"{_PARAM}.{name}"] = _number(text)
        try:
            return bool(self._wants(values))
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            what = str(error).removeprefix("float ")  # of a division by zero, before Python 3.14
            raise UsageError(f"{what} (task {values['task']})", where=self._where, remedy=_REMEDY) from None

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _term(self, node: ast.expr) -> _Term:
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, bool, type(None))):
            value = node.value
            return lambda _: value
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == _PARAM:
            return self._parameter(node.attr)
        if isinstance(node, (ast.Tuple, ast.List)):
            parts = [self._term(part) for part in node.elts]
            return lambda values: [part(values) for part in parts]
        if isinstance(node, (ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare)):
            return self._operation(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "glob":
            return self._glob(node)
        raise ValueError(f"{ast.unparse(node)[:40]} is not possible here")

    def _operation(self, node: ast.BoolOp | ast.UnaryOp | ast.BinOp | ast.Compare) -> _Term:
        if isinstance(node, ast.BoolOp):
            parts, decide = [self._term(part) for part in node.values], all if isinstance(node.op, ast.And) else any
            return lambda values: decide(part(values) for part in parts)
        if isinstance(node, ast.UnaryOp):
            inner = self._term(node.operand)
            if isinstance(node.op, ast.Not):
                return lambda values: not inner(values)
            if isinstance(node.op, ast.USub):
                return lambda values: -inner(values)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            calculate, left, right = _ARITHMETIC[type(node.op)], self._term(node.left), self._term(node.right)
            return lambda values: _calculated(calculate, left(values), right(values))
        if isinstance(node, ast.Compare):
            terms = [self._term(part) for part in (node.left, *node.comparators)]
            tests = [_comparison(op) for op in node.ops]
            return lambda values: all(
                test(left(values), right(values)) for test, left, right in zip(tests, terms, terms[1:], strict=False)
            )
        raise ValueError(f"{ast.unparse(node)[:40]} is not possible here")

    def _glob(self, node: ast.Call) -> _Term:
        if len(node.args) != 2 or node.keywords:
            raise ValueError('write glob(task, "mesh-*")')
        text, pattern = (self._term(arg) for arg in node.args)
        return lambda values: fnmatchcase(str(text(values)), str(pattern(values)))

    def _name(self, name: str) -> _Term:
        if name in MEMBERS:
            return lambda values: values.get(name)
        return self._parameter(name)

    def _parameter(self, name: str) -> _Term:
        if name not in self._parameters:
            known = [*self._parameters, *MEMBERS]
            near = get_close_matches(name, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}; texts stand in quotes"
            raise UsageError(f"there is no {name!r}", where=self._where, remedy=remedy)
        key = f"{_PARAM}.{name}"
        return lambda values: values.get(key)


def _comparison(op: ast.cmpop) -> Callable[[Any, Any], bool]:
    if isinstance(op, (ast.Eq, ast.Is)):
        return _equal
    if isinstance(op, (ast.NotEq, ast.IsNot)):
        return lambda left, right: not _equal(left, right)
    if isinstance(op, ast.In):
        return _is_in
    if isinstance(op, ast.NotIn):
        return lambda left, right: not _is_in(left, right)
    sign, compare = _ORDER[type(op)]
    return lambda left, right: _in_order(sign, compare, left, right)


def _equal(left: Any, right: Any) -> bool:
    """A text that is written as a number was made one: it equals the text all the same."""
    if isinstance(left, str) is not isinstance(right, str):
        left, right = (_number(value) if isinstance(value, str) else value for value in (left, right))
    return bool(left == right)


def _is_in(value: Any, container: Any) -> bool:
    if isinstance(container, list):
        return any(_equal(value, each) for each in container)
    return value is not None and str(value) in str(container if container is not None else "")


def _in_order(sign: str, compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, str) is not isinstance(right, str):
        raise TypeError(f"{left!r} {sign} {right!r} compares a text with a number")
    return bool(compare(left, right))


def _calculated(calculate: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Of numbers only: texts could be made as long as the memory."""
    if left is None or right is None:
        return None
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError(f"{left!r} and {right!r} are not two numbers")
    return calculate(left, right)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
