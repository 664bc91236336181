"""docs/notebooks/: runs from its first cell to its last, and comes without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.paths import ROOT

from streamtag.model.bundle import read_card

NOTEBOOK = ROOT / "docs" / "notebooks" / "first-tagger.ipynb"
SECONDS = 240


def test_the_notebook_has_no_outputs() -> None:
    """Nobody's paths, nothing that a change of the code makes untrue."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "work").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "work")}},
    )  # fmt: skip
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 2
    said = "".join(out.get("text", "") for out in outputs)
    said += "".join(out.get("data", {}).get("text/plain", "") for out in outputs)
    assert "val PR-AUC" in said
    assert "Warning" not in said
    card = read_card(tmp_path / "work" / "models" / "small.pt")
    assert card.scores["test"]["pr_auc"] > 0.8
    events = [line.split() for line in said.splitlines() if ", peak " in line]
    assert {event[0] for event in events} >= {"rain", "siren"}
