"""A training in a Jupyter kernel, where the cells of a notebook run in an event loop."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = """
import signal, warnings
warnings.simplefilter("ignore")
import lightning, torch
from torch.utils.data import DataLoader
from dae_lightning import DenoisingAutoencoder, GaussianNoise
handler = signal.getsignal(signal.SIGINT)
model = DenoisingAutoencoder(input_shape=(8, 8), latent=4, noise=GaussianNoise(sigma=2))
trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(model, DataLoader(torch.rand(20, 1, 8, 8), 5))
---
print(model.batches_seen, signal.getsignal(signal.SIGINT) is handler)
"""


@pytest.mark.slow
def test_a_notebook_trains_and_keeps_its_signal_handlers(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS.split("---\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[-1].outputs[0]["text"] == "8 True\n"
