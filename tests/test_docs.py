"""README and docs: every command parses, every link leads somewhere, every setting is there with its true default."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import crowdseg
from crowdseg.cli import app
from crowdseg.config import PRESETS, StageConfig, TrainConfig, XMaskConfig, make_config
from crowdseg.errors import CrowdsegError
from crowdseg.presets import PUBLISHED

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")])
STAGES = ("pretrain", "segment", "count")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of the languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def command_lines() -> list[tuple[str, str]]:
    """(page, line) of every call of crowdseg in the fenced shell blocks, continued lines joined."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash", "sh", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line.strip()) for line in lines if "crowdseg" in shlex.split(line, comments=True)]
    return found


def parse(line: str) -> dict:
    """Parse a command line as the shell and typer would, without running it; the values by parameter."""
    words = shlex.split(line, comments=True)
    words = words[words.index("crowdseg") + 1 :]
    ends = [number for number, word in enumerate(words) if word in ("|", ">", "&&", ";")]
    words = words[: ends[0]] if ends else words
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and not is_meant(command, words):
        assert words and words[0] in command.commands, f"there is no command `{' '.join(words[:1])}`"
        command = command.commands[words.pop(0)]
    return command.make_context(command.name, words).params


def is_meant(group: Any, words: list[str]) -> bool:
    """Whether the group itself is called, as in `crowdseg runs --json`, not a command of it."""
    return group.invoke_without_command and (not words or words[0].startswith("-"))


COMMANDS = command_lines()


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_commands_parse(page, line):
    values = parse(line)
    make_config(values.get("preset") or "sha-10", overrides=list(values.get("set_") or []))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("crowdseg predikt a.jpg", "no command `predikt`"),
        ("crowdseg predict a.jpg --nothing", "No such option"),
        ("crowdseg predict  # an image is missing", "Missing"),
        ("crowdseg eval --split tests", "tests"),
    ],
)
def test_wrong_commands_do_not_parse(line, reason):
    with pytest.raises(Exception, match=reason):
        parse(line)


def test_every_command_is_shown():
    shown = {" ".join(parse_path(line)) for _, line in COMMANDS}
    assert {" ".join(path) for path in all_commands()} - {"demo"} <= shown
    assert "make demo" in (ROOT / "README.md").read_text()


def parse_path(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    words = words[words.index("crowdseg") + 1 :]
    command: Any = typer.main.get_command(app).commands[words[0]]
    return words[:1] if not hasattr(command, "commands") or is_meant(command, words[1:]) else words[:2]


def all_commands() -> list[list[str]]:
    root: Any = typer.main.get_command(app)
    found = []
    for name, command in root.commands.items():
        inner = getattr(command, "commands", {})
        if not inner or command.invoke_without_command:
            found.append([name])
        found += [[name, each] for each in inner]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else page.parent / name
        assert file.is_file(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}: no such heading"


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: str) -> dict[str, list[str]]:
    """First cell in code marks -> the row's other cells, of all tables of a page; the first row of a name counts."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / page).read_text().splitlines():
        match = re.match(r"\| `([\w.-]+)` \|(.*)\|$", line)
        if match:
            found.setdefault(match[1], [cell.strip() for cell in match[2].split("|")])
    return found


@pytest.mark.parametrize("kind", [TrainConfig, StageConfig, XMaskConfig])
def test_settings_are_described_with_their_defaults(kind):
    config, described = make_config(), rows("train.md")
    groups = {
        TrainConfig: [config],
        StageConfig: [getattr(config, name) for name in STAGES],
        XMaskConfig: [config.xmask],
    }
    for name in (field.name for field in fields(kind)):
        if name in (*STAGES, "xmask"):
            continue
        assert name in described, f"docs/train.md does not describe {name}"
        values = [plain(getattr(group, name)) for group in groups[kind]]
        assert [read(cell) for cell in described[name][: len(values)]] == values, name


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def read(cell: str) -> object:
    """A table cell as a value; YAML alone takes 5e-05 for text."""
    try:
        return float(cell)
    except ValueError:
        return yaml.safe_load(cell)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"demo"}))
def test_presets_are_described(preset):
    config = make_config(preset)
    c, x = config.count, config.xmask
    weights = [x.background_weight, x.unit_mass_weight, x.single_peak_weight, x.energy_threshold, x.geometry_weight]
    shown = [float(cell) for cell in rows("train.md")[preset]]
    assert shown == pytest.approx([config.ratio, c.weight_decay, c.epochs, c.lr, *weights])


def test_published_figures_are_those_the_command_line_prints():
    text = (ROOT / "docs" / "train.md").read_text()
    shown = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (\d+) % \|(.*)\|(.*)\|(.*)\| (.+) \|$", text, re.MULTILINE)
    told = [
        (preset, row.dataset, row.labels, row.mae, row.rmse, row.mean_iou_c, row.of)
        for preset, rows in PUBLISHED.items()
        for row in rows
    ]
    read_out = [
        (preset, dataset, int(labels), *(float(cell) if cell.strip() else None for cell in cells), of)
        for preset, dataset, labels, *cells, of in shown
    ]
    assert read_out == told


def test_yaml_blocks_are_settings(tmp_path):
    for number, text in enumerate(blocks(ROOT / "docs" / "train.md", "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        assert make_config(file=file) != make_config()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_name_what_exists(page):
    for text in blocks(page, "python"):
        compile(text, page.name, "exec")
        for name in re.findall(r"\bcrowdseg\.(\w+)\(", text):
            assert hasattr(crowdseg, name), f"{page.name} calls crowdseg.{name}"


def test_exit_codes_are_described():
    kinds: list[type[CrowdsegError]] = [CrowdsegError, *CrowdsegError.__subclasses__()]
    codes = {kind.exit_code for kind in kinds}
    shown = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "own-data.md").read_text(), re.MULTILINE)
    assert {int(code) for code in shown} == {0, *codes}
