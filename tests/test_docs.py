"""The documentation is true: its links lead somewhere, and its code blocks work."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from inferry.cli.application import build_application
from inferry.cli.exits import Exit
from inferry.config import load_config

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block."""

    page: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    for page in PAGES:
        for language, text in _BLOCK.findall(page.read_text()):
            if language in languages:
                yield Block(page.name, language, text)


def name_of(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0][:40]}"


def command_names() -> set[str]:
    commands = vars(typer.main.get_command(build_application()))["commands"]
    inner = {
        f"{name} {leaf}"
        for name, group in commands.items()
        for leaf in vars(group).get("commands", ())
    }
    return inner | set(commands)


@every_page
def test_every_link_leads_to_a_file(page):
    targets = [link.split("#")[0] for link in _LINK.findall(page.read_text()) if ":" not in link]

    missing = [target for target in targets if target and not (page.parent / target).exists()]

    assert not missing


@every_page
def test_every_command_that_is_named_exists(page):
    named = re.findall(
        r"(?:^|[`$ ])inferry ([a-z]+)(?: ([a-z][a-z-]*))?(?=[ `\n])", page.read_text(), re.MULTILINE
    )
    known = command_names()
    groups = {name.split()[0] for name in known if " " in name}

    unknown = [
        (group, command)
        for group, command in named
        if (f"{group} {command}" if group in groups else group) not in known
    ]

    assert not unknown


@pytest.mark.parametrize("block", list(blocks("toml")), ids=name_of)
def test_a_configuration_in_the_documentation_loads(block, tmp_path):
    assert tomllib.loads(block.text)
    (tmp_path / "inferry.toml").write_text(block.text)

    loaded = load_config({}, environment={"HOME": "/nowhere"}, working_directory=tmp_path)

    assert loaded.file == tmp_path / "inferry.toml"


@pytest.mark.parametrize("block", list(blocks("python")), ids=name_of)
def test_python_in_the_documentation_parses(block):
    assert ast.parse(block.text).body


def test_the_command_line_page_lists_every_command():
    page = (ROOT / "docs/command-line.md").read_text()
    leaves = {name for name in command_names() if " " in name} | {"serve", "infer"}

    assert {name for name in leaves if f"`inferry {name}" not in page} == set()


def test_the_command_line_page_lists_every_exit_code():
    page = (ROOT / "docs/command-line.md").read_text()

    assert [f"| {code.value} |" for code in Exit if f"| {code.value} |" not in page] == []


def test_nothing_in_the_readme_is_promised_by_a_make_target_that_is_not_there():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()))

    assert {target for target in named if f"\n{target}:" not in makefile} == set()
