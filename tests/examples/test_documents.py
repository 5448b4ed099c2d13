"""README and the pages of the guide: whole programs run as they stand there, and fragments name nothing that does not exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import asyncpg
import httpx
import pytest

import durable
from durable import Durable
from tests.examples.processes import ROOT, run, serving, started

PAGES = (
    "guide",
    "control_flow",
    "sagas",
    "waiting",
    "queues",
    "deploy",
    "operations",
    "telemetry",
    "schedules",
    "cli",
    "deploy_check",
)
DOCUMENTS = ["README.md", *(f"docs/{page}.md" for page in PAGES)]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE = re.compile(r"# (\w+)\.py\b")


def blocks(language: str) -> list[str]:
    return [
        text
        for document in DOCUMENTS
        for found, text in BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
        if found == language
    ]


PROGRAMS = {name[1]: text for text in blocks("python") if (name := WHOLE.match(text))}
SHOWN = {
    "quickstart": "charging 1550 under the key order-123:charge_payment",
    "steps": "loan-1: step check_amount, attempt 1 of 1\n3.5% until 2027-01-01",
    "ids": "execution 'invoice-7' exists already.",
    "transaction": "welcome, ada@example.com\nada@example.com",
    "booking": "300 cents are with bob\n300",
    "asking": "no longer needed\ncancelled",
    "held": 'pending definition - expected step "pay" in place 2, found step "charge"\norder',
    "kitchen": "['rice', 'beans'] cooked\ntable 4 is free again\ncompensated",
    "branching": "300 g by post\n5000 g by carrier",
    "jumps": "review#3: 120 words\n{'words': 120, 'published': True}\n"
    "write, review, write#2, review#2, write#3, review#3, publish",
    "arms": "{'kg': 3, 'best': 'west', 'silent': ['southern']}",
    "items": "6 ['item 1: b.pdf has no rows']",
    "loops": "100\n['reading', 'reading[3]/read_page']",
    "nested": "A: ship-1:boxes[0]/both/customs/abroad/yes/declare",
    "saga": "charge/refund: giving back ch_7\nputting back ['mug']\nsorry, order 7: the carrier does not go there\n"
    "compensated\n[('charge', 'completed'), ('reserve', 'completed')]",
    "undoing": "room 12 is reserved\n"
    "room 12 is free again, because durable.errors.ExecutionCancelled: the guest has fallen ill\ncompensated",
}
SHOWN |= {
    "nightly": "['Mon 07:00', 'Tue 07:00']\nreport active",
    "tenants": "big 1\nsmall 1\nbig 2\nbig 3",
    "trial": "the body begins\nto ada@example.com: welcome\nthe body begins\nto ada@example.com: your trial ends soon\n"
    "{'email': 'ada@example.com', 'mails': ['mail-7', 'mail-20']}",
    "pages": "{'one': 3, 'three': 5, 'gone': '404'}",
    "expense": "expense 7 asks: 40 for a lamp?\nthis does not answer 'manager' of execution 'expense 7', which waits on: "
    'the answer must be one of "approved", "rejected", not "maybe"\n'
    "{'what': 'a lamp', 'amount': 40, 'decision': 'approved'}",
    "deposit": "{'deposit': 50, 'status': 'booked', 'receipt': 'receipt-50'}\npayment completed\n"
    "{'deposit': 500, 'status': 'failed', 'why': 'durable.errors.NonRetryable: the card was declined'}\npayment failed",
    "letter": "chunk letter Dear\nprogress letter 0.3333333333333333\nchunk letter Ada\nprogress letter 0.6666666666666666\n"
    "chunk letter and so on\nprogress letter 1.0\ncompleted letter Dear Ada and so on\nended  None",
    "research": "['SNOW: ONE', 'SNOW: TWO']",
    "sealed": "Ada has room 12",
    "payment": "{'order': 5, 'outcome': 'payment.succeeded', 'details': {'sum': 12}}",
}
SERVERS = {"shop", "aiohttp_shop", "worker"}


def saved(name: str, folder: Path) -> str:
    (folder / f"{name}.py").write_text(PROGRAMS[name], encoding="utf-8")
    return f"{name}.py"


def test_every_whole_program_is_run_by_a_test() -> None:
    assert PROGRAMS.keys() == SHOWN.keys() | SERVERS


@pytest.mark.parametrize("name", SHOWN)
async def test_a_whole_program_runs_as_it_stands_in_the_documents(name: str, database: str, tmp_path: Path) -> None:
    status, output = await run("-W", "error", saved(name, tmp_path), cwd=tmp_path, DURABLE_DATABASE_URL=database)
    assert status == 0, output
    assert SHOWN[name] in output


async def test_the_quick_start_run_twice_charges_once(database: str, tmp_path: Path) -> None:
    program = saved("quickstart", tmp_path)
    outputs = [(await run(program, cwd=tmp_path, DURABLE_DATABASE_URL=database))[1] for _ in range(2)]
    assert ["charging" in output for output in outputs] == [True, False]
    assert ["'charge_id': 'ch_order-123'" in output for output in outputs] == [True, True]


async def test_the_fastapi_program_serves(database: str, tmp_path: Path) -> None:
    saved("shop", tmp_path)
    async with (
        serving("-m", "uvicorn", "shop:app", "--port", "0", "--app-dir", str(tmp_path), database=database) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        assert (await http.post("/orders", json={"id": "1"})).json() == {"id": "1", "created": True}
        assert (await http.get("/orders/1/result")).json() == {"order": "1", "processed": True}


async def test_the_aiohttp_program_serves(database: str, tmp_path: Path) -> None:
    program = saved("aiohttp_shop", tmp_path)
    anywhere = (tmp_path / program).read_text().replace('host="127.0.0.1")', 'host="127.0.0.1", port=0)')
    (tmp_path / program).write_text(anywhere)
    async with (
        serving(str(tmp_path / program), database=database) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        answer = await http.post("/orders", json={"id": "1"})
        assert (answer.status_code, answer.json()) == (202, {"id": "1", "created": True})


async def test_the_worker_program_serves_its_queue_and_drains_on_sigterm(database: str, tmp_path: Path) -> None:
    async with started(saved("worker", tmp_path), cwd=tmp_path, DURABLE_DATABASE_URL=database) as process:
        assert process.stdout is not None
        async for line in process.stdout:
            if b"this worker serves default, shipping" in line:
                break
        process.terminate()
        output, _ = await process.communicate()
        assert process.returncode == 0, output


async def test_the_sql_of_the_guide_starts_an_execution(database: str) -> None:
    (statement,) = blocks("sql")
    welcome = durable.Workflow[str, str]("welcome")

    @welcome.step
    async def greet(address: str) -> str:
        return f"welcome, {address}"

    async with Durable(database, workflows=[welcome]) as engine:
        connection = await asyncpg.connect(database)
        try:
            assert await connection.fetchval(statement) == "grace"
        finally:
            await connection.close()
        assert await engine.handle("grace", welcome).result(30) == "welcome, grace@example.com"


@pytest.mark.parametrize("block", blocks("python"))
def test_a_block_names_nothing_of_durable_that_does_not_exist(block: str) -> None:
    tree = compile(block, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "durable":
            assert {alias.name for alias in node.names} <= set(durable.__all__)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "durable":
            assert node.attr in durable.__all__


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose(path)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            headings = (line.lstrip("# ") for line in prose(target).splitlines() if line.startswith("#"))
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_make_targets_that_are_named_exist() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"\bmake (\w+)", text)) & targets
    assert set(re.findall(r"^make (\w+) ", text, re.MULTILINE)) <= targets
    assert "The test command is `make test`" in text
