"""Imports go one way: from the folders at the end of the list to those before."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

ORDER = "errors audio model engine feed config sources history monitoring bridges daemon train cli"


def imported(path: Path) -> Iterator[Path]:
    """The files of the package that a file imports, each relative to the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            above = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in (*above, *(".".join((*above, alias.name)) for alias in node.names)):
                file = (ROOT / name.replace(".", "/")).with_suffix(".py")
                if name.startswith("streamtag.") and file.is_file():
                    yield file.relative_to(ROOT / "streamtag")


def test_imports_go_one_way() -> None:
    package, order = ROOT / "streamtag", ORDER.split()
    files = [path.relative_to(package) for path in package.rglob("[!_]*.py")]
    graph = {file: set(imported(package / file)) for file in files}
    for file, targets in graph.items():
        place = order.index(file.parts[0].removesuffix(".py"))
        above = [t for t in targets if order.index(t.parts[0].removesuffix(".py")) > place]
        assert not above, f"{file} imports from a folder above its own: {above}"
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_no_class_name_is_used_twice() -> None:
    """Nor is it the name of a type alias, or of a typer option, in another module."""
    places: dict[str, list[str]] = {}
    others: dict[str, str] = {}
    for path in (ROOT / "streamtag").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                others[node.targets[0].id] = str(path.relative_to(ROOT))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}
    assert not {name: others[name] for name in others.keys() & places.keys()}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_daemon_does_not_load_the_trainer() -> None:
    code = """import sys, streamtag.daemon.daemon
print([m for m in sys.modules
       if m.startswith(("streamtag.train", "torchaudio", "sounddevice", "matplotlib"))])"""
    assert run(code) == "[]"


def test_a_daemon_with_workers_needs_no_torch_itself() -> None:
    """Only its launcher and its workers import it."""
    code = "import sys, streamtag.daemon.daemon, streamtag.daemon.ops.metrics as m; m.gpu_bytes()"
    assert run(f"{code}; print('torch' in sys.modules)") == "False"


def test_the_client_needs_no_torch() -> None:
    assert (
        run("import sys, streamtag; streamtag.Subscriber; print('torch' in sys.modules)") == "False"
    )


def test_the_wheel_leaves_out_no_folder_of_the_package() -> None:
    """A pattern without a slash at its begin would match at any depth, as in `streamtag/train/`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    assert all(pattern.startswith("/") for pattern in settings["sdist"]["exclude"])
