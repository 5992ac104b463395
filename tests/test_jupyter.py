"""Trainings in a Jupyter kernel: one bar, a stop button that stops one cell alone, several processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel")
pytest.importorskip("ipywidgets")
manager = pytest.importorskip("jupyter_client.manager")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
TIMEOUT = 240  # seconds, of one cell; a process that waits for ever is ended with the kernel
WIDGET = "application/vnd.jupyter.widget-view+json"

PRELUDE = """
import logging, signal, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import lightning, torch
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
from torch.utils.data import DataLoader
from dae_lightning import DenoisingAutoencoder, GaussianNoise, StopAfterStep, TrainingBar
from dae_lightning.training.run import train
from tests.conftest import compose_small, write_blobs
torch.set_num_threads(2)  # conftest has set one

images = torch.rand(2000, 1, 28, 28)
def model(): return DenoisingAutoencoder((28, 28), 64, GaussianNoise(sigma=2))
def trainer(*callbacks, **flags):
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    return lightning.Trainer(callbacks=list(callbacks), **quiet | flags)
def handlers(): return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
class Started(lightning.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == 1: print("started", flush=True)
Path("data").mkdir()
def settings(*overrides): return compose_small(Path("data"), *overrides)
write_blobs(Path("data"))
before = handlers()
"""


class Kernel:
    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
        self.manager, self.client = manager.start_new_kernel(cwd=str(folder), env=environment)

    def __call__(self, code: str, stop: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Run a cell: the kernel's reply, and what the cell has put out. With `stop`, press the button at "started"."""
        outputs: list[dict[str, Any]] = []
        pressed: list[bool] = []

        def note(message: dict[str, Any]) -> None:
            content = message["content"]
            outputs.append(content | {"type": message["msg_type"]})
            if stop and not pressed and "started" in content.get("text", ""):
                pressed.append(True)
                self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(code, timeout=TIMEOUT, output_hook=note)["content"]
        return reply, outputs

    def text(self, code: str) -> str:
        """What a cell prints."""
        reply, outputs = self(code)
        assert reply["status"] == "ok", reply
        return "".join(output["text"] for output in outputs if output["type"] == "stream")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    running = Kernel(tmp_path_factory.mktemp("notebook"))
    running.text(PRELUDE)
    yield running
    running.client.stop_channels()
    running.manager.shutdown_kernel(now=True)


FITS = {
    "any Trainer": "trainer(TrainingBar(), max_epochs=3).fit(model(), DataLoader(images, 200), DataLoader(images[:9]))",
    "ours": 'train(settings("trainer.enable_progress_bar=true", "figures=false"), Path("bar"))',
}


@pytest.mark.parametrize("fit", FITS)
def test_a_whole_fit_has_one_bar_and_no_line_an_epoch(kernel: Kernel, fit: str) -> None:
    reply, outputs = kernel(FITS[fit])
    assert reply["status"] == "ok", reply
    shown = [output["data"] for output in outputs if output["type"] == "display_data"]
    assert [WIDGET in data for data in shown] == [True]
    assert "epoch 1" not in "".join(output["text"] for output in outputs if output["type"] == "stream")


def test_a_second_cell_trains_on_and_handlers_are_as_they_were(kernel: Kernel) -> None:
    kernel.text("learning = model()\ntrainer(max_epochs=2).fit(learning, DataLoader(images, 200))")
    kernel.text("trainer(max_epochs=1).fit(learning, DataLoader(images, 200))")
    assert kernel.text("print(learning.batches_seen, handlers() == before)") == "30 True\n"


def test_the_stop_button_ends_the_cell_after_a_step_and_the_next_cell_trains_on(kernel: Kernel) -> None:
    kernel.text("learning, fit = model(), trainer(TrainingBar(), StopAfterStep(), Started(), max_epochs=-1)")
    reply, _ = kernel("fit.fit(learning, DataLoader(images, 200))", stop=True)
    assert reply["ename"] == "Interrupted"
    assert reply["evalue"].startswith("stopped by SIGINT after step ")
    assert reply["traceback"] == [reply["evalue"]]  # no traceback
    steps = int(reply["evalue"].split()[-1])
    assert kernel.text("print(handlers() == before, learning.batches_seen)") == f"True {steps}\n"
    kernel.text("trainer(max_epochs=1).fit(learning, DataLoader(images, 200))")
    assert kernel.text("print(learning.batches_seen)") == f"{steps + 10}\n"


def test_the_stop_button_lets_our_training_save_and_resume(kernel: Kernel) -> None:
    kernel.text("long = settings('trainer.max_epochs=100000', 'figures=false')")
    reply, _ = kernel("train(long, Path('run'), record=lambda: print('started', flush=True))", stop=True)
    assert (reply["ename"], reply["traceback"]) == ("Interrupted", ["stopped by SIGINT"])
    assert kernel.text("print(handlers() == before)") == "True\n"
    kernel.text("last = Path('run/checkpoints/last.ckpt'); epochs = torch.load(last, weights_only=True)['epoch'] + 2")
    kernel.text("train(settings(f'trainer.max_epochs={epochs}'), Path('run'), last)")
    assert kernel.text("print(handlers() == before, Path('run/results.json').exists())") == "True True\n"


def test_a_second_press_ends_the_cell_at_once_and_not_the_kernel(kernel: Kernel) -> None:
    slow = "class Slow(DenoisingAutoencoder):\n    def training_step(self, *_):\n        print('started', flush=True)\n"
    kernel.text(slow + "        import time; time.sleep(600)")
    press = "import os, threading\nlater = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)); later.start()\n"
    fit = "trainer(StopAfterStep(), max_epochs=1).fit(Slow((28, 28), 4, GaussianNoise()), DataLoader(images, 200))"
    reply, _ = kernel(press + fit, stop=True)
    assert reply["status"] == "error"
    assert kernel.text("later.cancel(); print(handlers() == before)") == "True\n"


def test_several_processes_train_after_openmp_was_used(kernel: Kernel) -> None:
    used = "trainer(max_epochs=1).fit(model(), DataLoader(images, 200))\nprint(torch.get_num_threads())"
    assert kernel.text(used) == "2\n"
    kernel.text(
        "learning = model(); first = learning.network.encoder.weight.clone()\n"
        "two = trainer(TrainingBar(), max_epochs=2, devices=2, strategy='ddp_notebook')\n"
        "two.fit(learning, DataLoader(images, 200))"
    )
    changed = "print(torch.equal(learning.network.encoder.weight, first), *two.callback_metrics, handlers() == before)"
    assert kernel.text(changed) == "False train/loss True\n"
