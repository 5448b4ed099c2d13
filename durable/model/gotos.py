"""Reads in the source of a function where it may go: the names that it gives to `Goto` literally.

It calls nothing and imports nothing. What cannot be read is not there: the interpreter refuses an unknown target in any case.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any, TypeAlias, TypeGuard

from durable.model.definition import Function
from durable.model.results import Goto
from durable.model.signature import author_of

_Written: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def goto_targets(function: Function) -> tuple[str, ...]:
    """The names that the source of *function* gives to `Goto` literally, each once, in order."""
    written, spelled = _source(function)
    targets: dict[str, None] = {}
    calls = [] if written is None else [node for node in _within(written) if _is_goto(node, spelled)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "target")]
        targets.update((g.value, None) for g in given if isinstance(g, ast.Constant) and isinstance(g.value, str))
    return tuple(targets)


def returns_goto(function: Function) -> bool:
    """True when the source of *function* itself, not of a function inside it, returns a `Goto` that is made there."""
    written, spelled = _source(function)
    match written:
        case None:
            return False
        case ast.Lambda(body=body):
            return _is_goto(body, spelled)
        case _:
            return any(isinstance(n, ast.Return) and _is_goto(n.value, spelled) for n in _of_its_own(written))


def _is_goto(node: ast.AST | None, spelled: frozenset[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in spelled


def _source(function: Function) -> tuple[_Written | None, frozenset[str]]:
    """What its author wrote, and how `Goto` is spelled there; nothing when the word does not occur."""
    author = author_of(function)
    code: Any = getattr(author, "__code__", None)
    if not isinstance(code, CodeType):
        return None, frozenset()
    namespace: dict[str, Any] = getattr(author, "__globals__", {})
    spelled = _spellings(code, {**namespace, **_closure(author, code)})
    return (_find(code, namespace) if spelled else None), spelled


def _spellings(code: CodeType, known: Mapping[str, Any]) -> frozenset[str]:
    """``Goto``, ``durable.Goto``, or however else *code* calls it; *known* is what its names mean."""
    used = _names(code)
    plain = {name for name in used if known.get(name) is Goto}
    # Only modules are looked into, and without asking them: what other objects do when asked is not known.
    modules: dict[str, dict[str, Any]] = {
        name: vars(known[name]) for name in used if issubclass(type(known.get(name)), ModuleType)
    }
    dotted = {f"{module}.{name}" for module, has in modules.items() for name in used if has.get(name) is Goto}
    return frozenset(plain | dotted)


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *code.co_freevars, *(name for one in inner for name in _names(one))}


def _closure(function: Any, code: CodeType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # nothing was assigned yet
            continue
    return found


def _find(code: CodeType, namespace: dict[str, Any]) -> _Written | None:
    """The definition that *code* was made of: the one of its name in its line, of lambdas the one in its columns."""
    linecache.checkcache(code.co_filename)
    tree = _parsed("".join(linecache.getlines(code.co_filename, namespace)))
    if tree is None:
        return None
    found = [node for node in ast.walk(tree) if _begins(node, code)]
    if len(found) > 1:
        spans = [span for span in code.co_positions() if None not in span]
        found = [node for node in found if isinstance(node, ast.Lambda) and any(_holds(node, span) for span in spans)]
    # Of lambdas within a lambda, the innermost: ast.walk gives it last.
    last = found[-1] if found else None
    return last if isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else None


@functools.lru_cache(maxsize=4)
def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _begins(node: ast.AST, code: CodeType) -> bool:
    match node:
        case ast.Lambda(lineno=line):
            return code.co_name == "<lambda>" and line == code.co_firstlineno
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            line = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            return code.co_name == node.name and line == code.co_firstlineno
        case _:
            return False


def _holds(node: ast.Lambda, span: tuple[Any, ...]) -> bool:
    """True when the instruction at *span* was made of the body of *node*."""
    line, last_line, column, last_column = span
    body: Any = node.body
    begins, ends = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    return begins <= (line, column) and (last_line, last_column) <= ends


def _within(node: _Written) -> Iterator[ast.AST]:
    """What is in the body, functions inside it included; decorators are not."""
    for part in [node.body] if isinstance(node, ast.Lambda) else node.body:
        yield from ast.walk(part)


def _of_its_own(node: ast.AST) -> Iterator[ast.AST]:
    """What is in the body, without the functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _of_its_own(child)
