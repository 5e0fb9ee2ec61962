"""The notebook runs from top to bottom on a finished sweep."""

import nbformat
from nbclient import NotebookClient

from tests.integration.conftest import HUNG_SECONDS, ROOT, environment

NOTEBOOK = ROOT / "docs" / "notebooks" / "first_sweep.ipynb"


def test_the_notebook_reads_and_exports_a_sweep(smoke, monkeypatch):
    folder, _ = smoke
    for name, value in environment(SWEEP=str(folder), PYTHONPATH=str(ROOT)).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=HUNG_SECONDS, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    assert "Best learning rate: " in printed
    assert "adapter of t0" in printed
    charts = [
        output.data["application/vnd.plotly.v1+json"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "display_data" and "application/vnd.plotly.v1+json" in output.data
    ]
    assert [len(chart["data"]) for chart in charts] == [3, 1]  # a curve a trial; the winner's areas
    assert len(charts[0]["data"][0]["y"]) == 14, "16 steps, smoothed over three"
