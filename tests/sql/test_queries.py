"""Every query file against PostgreSQL and against the code: the header tells the truth, and no SQL lies elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import durable
from durable.store.queries import load, sql_folder

QUERIES = sorted(
    path.relative_to(sql_folder() / "queries").with_suffix("").as_posix()
    for path in (sql_folder() / "queries").glob("*/*.sql")
)
PACKAGE = Path(durable.__file__).parent
_STATEMENT = re.compile(
    r"^\s*(with\s+\w+\s+as\b|select\s.+\sfrom\b|insert\s+into\b|update\s+\S+\s+set\b|delete\s+from\b|create\s+\w+|(notify|listen)\s+\w"
    r"|lock\s+table\b|alter\s+\w+|drop\s+\w+|begin\b|commit\b|rollback\b|set\s+local\b)",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA = re.compile(
    r"\bdurable\.(execution|journal|ready|claim|wake|ended|worker|message|posted|shape|migration|clock)\b"
)
_CLAUSE = re.compile(r"\b(select|from|insert|update|delete|where|join)\b", re.IGNORECASE)


def text_of(name: str) -> str:
    return (sql_folder() / "queries" / f"{name}.sql").read_text("utf-8")


def header_of(name: str) -> list[str]:
    lines = text_of(name).splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]


def type_name(type: asyncpg.Type) -> str:
    """As a header spells it: int4, text[]."""
    return type.name if type.kind != "array" else f"{type.name.removeprefix('_').removesuffix('[]')}[]"


def python_files() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """The string literals of a module but its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


async def test_the_header_of_every_query_says_what_postgresql_says(database: str, subtests: pytest.Subtests) -> None:
    connection = await asyncpg.connect(database)
    try:
        for name in QUERIES:
            with subtests.test(name):
                query = load(name)
                statement = await connection.prepare(query.sql)
                assert [type_name(t) for t in statement.get_parameters()] == [type for _, type in query.parameters]
                columns = [(a.name, type_name(a.type)) for a in statement.get_attributes()]
                assert columns == list(query.columns)
    finally:
        await connection.close()


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_a_whole_header(name: str) -> None:
    header = header_of(name)
    assert re.match(r"-- \w", header[0]), "the header begins with the purpose"
    assert "--" in header, "an empty line ends the purpose"
    rest = header[header.index("--") + 1 :]
    kinds = [line.split()[1] for line in rest if not line.startswith("--  ")]
    assert [kind for kind in kinds if not kind.startswith("$")] == ["Returns", "Locks", "Index"]
    assert len({name for name, _ in load(name).parameters}) == len(load(name).parameters)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_file_is_one_statement(name: str) -> None:
    assert ";" not in load(name).sql
    assert "--" not in load(name).sql, "what is to be said is said in the header"


@pytest.mark.parametrize("name", QUERIES)
def test_every_parameter_is_used_and_cast_to_its_type(name: str) -> None:
    query = load(name)
    used = {int(number) for number in re.findall(r"\$(\d+)", query.sql)}
    assert used == set(range(1, len(query.parameters) + 1))
    for number, (_, type) in enumerate(query.parameters, 1):
        assert f"${number}::{type}" in query.sql or f"(${number})::{type}" in query.sql


def test_every_query_file_is_used_and_every_one_used_is_there() -> None:
    named = {
        node.value
        for _, tree in python_files()
        for node in strings(tree)
        if isinstance(node.value, str) and re.fullmatch(r"[a-z]+/[a-z_]+", node.value)
    }
    assert set(QUERIES) - named == set()
    loaded = {
        call.args[0].value
        for _, tree in python_files()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and (
            (isinstance(call.func, ast.Name) and call.func.id == "load")
            or (
                isinstance(call.func, ast.Attribute)
                and call.func.attr == "fetch"
                and isinstance(call.args[0].value, str)
                and "/" in call.args[0].value
            )
        )
    }
    assert loaded - set(QUERIES) == set()


def test_no_sql_lies_in_python() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value[:60]!r}"
        for path, tree in python_files()
        for node in strings(tree)
        if isinstance(node.value, str)
        and (_STATEMENT.match(node.value) or (_SCHEMA.search(node.value) and _CLAUSE.search(node.value)))
    ]
    assert found == []


def test_a_statement_that_is_no_file_would_be_found() -> None:
    for sql in ("select 1 from t", "INSERT INTO t VALUES (1)", "with a as (select 1) select * from a", "LISTEN x"):
        assert _STATEMENT.match(sql)


@pytest.mark.parametrize("path", sorted((sql_folder() / "invariants").glob("*.sql")), ids=lambda path: path.stem)
async def test_every_law_can_be_asked_and_an_empty_database_keeps_it(database: str, path: Path) -> None:
    law = path.read_text("utf-8")  # noqa: ASYNC240
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetch(law) == []
    finally:
        await connection.close()
