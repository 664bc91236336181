"""README.md and docs/: links resolve, snippets are valid, defaults are true, the site builds."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from support.paths import ROOT

from streamtag.cli.main import app
from streamtag.config.alerts import AlertConfig, NotifyConfig, NotifyTarget
from streamtag.config.all_errors import validate_all
from streamtag.config.bridges import MqttConfig, OscConfig, WebConfig, WebhookConfig
from streamtag.config.clips import ClipsConfig
from streamtag.config.config import Config
from streamtag.config.feed import FeedConfig
from streamtag.config.fleet import FleetConfig
from streamtag.config.nats import NatsConfig
from streamtag.config.report import ReportConfig
from streamtag.config.stream import LevelConfig, StreamConfig
from streamtag.config.tuning import TagTuning, Tuning
from streamtag.train.recipes.recipe import Augment, Distil

PAGES = sorted([*ROOT.glob("*.md"), ROOT / "models" / "README.md", *(ROOT / "docs").glob("*.md")])
CONFIGURATION = ROOT / "docs" / "configuration.md"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *kinds: str) -> Iterator[str]:
    """Snippets of some kinds."""
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        if kind in kinds:
            yield text


def code(page: Path) -> str:
    """The code of a page: its snippets and what stands between backticks."""
    text = page.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", rest)])


def snippets(*kinds: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{named(page)}-{i}")
        for page in PAGES
        for i, text in enumerate(blocks(page, *kinds))
    ]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-")
        for head in re.findall(r"^#+ (.*)", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" not in target:
            assert (page.parent / file).exists(), target
        if not file:
            assert anchor in heads, target
    for target in re.findall(r"`((?:docs|models|tests|benchmarks|streamtag)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / target).exists() or "NAME" in target or target.endswith(".pt"), target


@pytest.mark.parametrize("text", snippets("toml"))
def test_configurations_are_taken(text: str) -> None:
    table = tomllib.loads(text)
    table.setdefault("streams", {"radio1": {"source": "device:"}})
    config, lines = validate_all(table)
    assert lines == []
    assert config is not None


def commands() -> list[str]:
    lines = [
        line.partition("  #")[0].strip()
        for page in PAGES
        for text in blocks(page, "sh", "")
        for line in text.splitlines()
        if line.startswith("streamtag ")
    ]
    return sorted({part.strip() for line in lines for part in line.split(" | ")})


@pytest.mark.parametrize("line", [line for line in commands() if "[" not in line or "'[" in line])
def test_commands_are_taken(line: str) -> None:
    """As far as options and arguments go; nothing is run."""
    line = re.split(r" > (?=[^']*(?:'[^']*'[^']*)*$)", line)[0]  # a `>` in quotes is no redirection
    if not line.startswith("streamtag "):  # `streamtag ctl list | status`: two of them
        line = f"streamtag ctl {line}"
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while True:
        with command.make_context("streamtag", words) as context:
            if not hasattr(command, "resolve_command"):  # no group
                return
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                return
            _, found, words = command.resolve_command(context, rest)
            assert found is not None, line
            command = found


@pytest.mark.parametrize("text", snippets("python"))
def test_python_is_python(text: str) -> None:
    ast.parse(text)


@pytest.mark.parametrize("text", snippets("json"))
def test_json_is_json(text: str) -> None:
    json.loads(text)


EXAMPLES = {"taggers", "defaults", "languages", "streams", "web", "mqtt", "osc", "webhook"}
EXAMPLES |= {"nats", "fleet", "alert", "notify", "clips", "report"}
"""Tables of which the page shows an example, or that have a page of their own."""


def test_the_page_shows_every_key_of_the_daemon_with_its_default() -> None:
    (text,) = blocks(CONFIGURATION, "toml")
    shown = tomllib.loads(text.replace("# batch_sizes", "batch_sizes"))
    default = Config.model_validate({"streams": {"a": {"source": "device:"}}}).model_dump()
    level = {"threshold_dbfs", "silence_seconds", "sound_seconds", "clipping_seconds"}
    assert shown["level"].keys() == level | {"channels_seconds", "mono_db"}
    usual = LevelConfig().over(LevelConfig())
    default["level"] = {key: getattr(usual, key) for key in shown["level"]}
    default["models"]["trusted_keys"] = list(default["models"]["trusted_keys"])
    del shown["engine"]["batch_sizes"], default["engine"]["batch_sizes"]  # None has no spelling
    for key in default.keys() - EXAMPLES:
        assert shown[key] == default[key], key


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("configuration.md", FeedConfig),
        ("configuration.md", Tuning),
        ("configuration.md", TagTuning),
        ("sources.md", StreamConfig),
        ("web.md", WebConfig),
        ("mqtt.md", MqttConfig),
        ("osc.md", OscConfig),
        ("nats.md", NatsConfig),
        ("fleet.md", FleetConfig),
        ("webhooks.md", WebhookConfig),
        ("evidence.md", ClipsConfig),
        ("alerts.md", AlertConfig),
        ("alerts.md", NotifyConfig),
        ("alerts.md", NotifyTarget),
        ("reports.md", ReportConfig),
    ],
)
def test_every_key_is_on_its_page_as_code(page: str, table: Any) -> None:
    """Prose does not count: `rate` is a word of English, too."""
    text = code(ROOT / "docs" / page)
    other = code(CONFIGURATION) if table is StreamConfig else ""
    missing = [key for key in table.model_fields if not re.search(rf"\b{key}\b", text + other)]
    assert missing == []


@pytest.mark.parametrize("table", [Augment, Distil])
def test_every_key_of_sounds_for_training_is_on_its_page(table: type) -> None:
    text = code(ROOT / "docs" / "training-sounds.md")
    assert [f.name for f in fields(table) if not re.search(rf"\b{f.name}\b", text)] == []


@pytest.mark.parametrize("name", ["web", "mqtt", "osc", "nats"])
def test_a_bridges_page_shows_its_defaults(name: str) -> None:
    """In its first example; examples of values are said to be optional by a comment."""
    tables = [tomllib.loads(text) for text in blocks(ROOT / "docs" / f"{name}.md", "toml")]
    shown = next(table[name] for table in tables if name in table)
    kinds: dict[str, Any] = {"web": WebConfig, "mqtt": MqttConfig, "osc": OscConfig}
    kind = (kinds | {"nats": NatsConfig})[name]
    examples = {"streams", "tags", "targets", "port", "client_id"}
    for key in shown.keys() - examples:
        default = kind.model_fields[key].default
        assert shown[key] == (list(default) if isinstance(default, tuple) else default), key


def test_the_readme_has_at_most_900_words() -> None:
    """Signs of tables are no words."""
    words = (ROOT / "README.md").read_text().split()
    assert sum(any(c.isalnum() for c in word) for word in words) <= 900


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    """As `make docs` builds it: every page is in the navigation, every link and anchor resolves."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search" / "search_index.json").is_file()


def test_the_way_of_a_block_is_drawn_as_the_code_has_it() -> None:
    """Each step of docs/architecture.md is a function of its file, and the picture is fresh."""
    path = ROOT / "docs" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = drawing
    spec.loader.exec_module(drawing)
    steps = drawing.steps()
    assert 20 <= len(steps) <= 25
    for step in steps:
        tree = ast.parse((ROOT / "streamtag" / step.file).read_text())
        names: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{n.name}" for n in node.body if hasattr(n, "name")}
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
        assert step.function in names, f"{step.file} has no {step.function}"
    assert drawing.PICTURE.read_text() == drawing.draw()
