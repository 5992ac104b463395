"""The time of an epoch: ours as shipped, a bare PyTorch loop, the notebook under Keras 2, the stock Lightning recipe.

    python benchmarks/epoch_time.py DIR [ROUNDS] [THREADS]       (extra [bench])

60,000 training images (those of DIR, repeated), batch 32, latent 256, sigma 2, two threads, the CPU. The contestants
take turns, three epochs each, of which the first warms up and does not count; the bare loop's epochs, and the matrix
products, come between ours. What is printed are medians over all rounds and their ratios. Ours is `python train.py`:
5,000 more images are held out and validated, two checkpoints and metrics.csv are written in every epoch, and the bar
is drawn where stderr is a terminal; nobody else does any of that. Keras takes its turns in a process of its own, since
tensorflow and torch each keep their threads waiting. Claims:

- ours takes at most 1.08x the time of the bare loop,
- and is at least 1.6x faster than Keras 2,
- and at least 2.5x faster than the stock recipe (torchvision's data set, ToTensor, DataLoader, no workers);
- validating takes at most 3 % of an epoch;
- at batch 512 an epoch's matrix products (five in a training step, two to validate a batch on each of two tasks) take
  at least 60 % of its time when nothing else is done;
- peak memory is at most 1.2 GB over that of the imports (measured in a process of its own).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.model.metrics import TASKS
from dae_lightning.signals import StopSignal
from dae_lightning.training.callbacks import History, TrainingBar
from dae_lightning.training.checkpoints import Checkpoints
from dae_lightning.training.setup import make_model, make_trainer

IMAGES, HELD_OUT, LATENT, SIGMA, EPOCHS = 60_000, 5_000, 256, 2.0, 3
BATCH, WIDE = 32, 512


@dataclass(frozen=True)
class Tiled:
    """The images of a folder, repeated until there are enough."""

    root: str

    def prepare(self) -> None:
        """Nothing."""

    def load(self) -> Splits:
        train, test, _ = IdxFolder(self.root).load()
        size = IMAGES + HELD_OUT
        times = -(-size // len(train.images))
        return Splits(ImageSet(train.images.repeat(times, 1, 1)[:size], None), test)


class Clock(pl.Callback):
    """The seconds of each epoch, with what comes behind it (checkpoints); before each, `rival` is given its turn."""

    def __init__(self, rival: Iterator[float] | None = None) -> None:
        self.rival = rival
        self.epochs: list[float] = []
        self.rivals: list[float] = []
        self.validation: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._stop()
        if self.rival is not None:
            self.rivals.append(next(self.rival))
        self._start = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self._validation = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self.validation.append(time.perf_counter() - self._validation)

    def on_train_end(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._start:
            self.epochs.append(time.perf_counter() - self._start)


def layers() -> tuple[nn.Linear, nn.Linear]:
    return nn.Linear(784, LATENT), nn.Linear(LATENT, 784)


def bare(images: Tensor) -> Iterator[float]:
    """The loop that one would write by hand for speed: fused Adam, batches indexed out of one tensor."""
    encoder, decoder = (layer.to(images.device) for layer in layers())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], eps=1e-7, fused=True)
    for _ in range(EPOCHS):
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # as where Lightning, which sets it, is not imported
        start = time.perf_counter()
        for indices in torch.randperm(len(images), device=images.device).split(BATCH):
            clean = images.index_select(0, indices).float().div_(255).flatten(1)
            noisy = clean + SIGMA * torch.randn_like(clean)
            loss = F.binary_cross_entropy_with_logits(decoder(F.leaky_relu(encoder(noisy), 0.3)), clean)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # a GPU may still be at it
        seconds = time.perf_counter() - start
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
        yield seconds


def ours(data: ImageDataModule, device: str = "cpu", *overrides: str, rival: Iterator[float] | None = None) -> Clock:
    """`python train.py trainer=cpu`: its Trainer, its model, its callbacks."""
    overrides = (f"trainer={device}", f"trainer.max_epochs={EPOCHS}", *overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("train", [*overrides]), config.Train)
    clock = Clock(rival)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            History(Path(folder, "metrics.csv")),
            Checkpoints(Path(folder), settings.data, settings.checkpoint, StopSignal()),
            TrainingBar(),
            clock,
        ]
        trainer = make_trainer(settings, Path(folder), data, callbacks)
        trainer.fit(make_model(settings, (28, 28)), datamodule=data)
    return clock


def keras(root: str) -> list[float]:
    """The notebook's own training, in Keras 2."""
    arguments = [root, str(LATENT), str(SIGMA), "0", str(EPOCHS), str(IMAGES)]
    command = [sys.executable, "-m", "benchmarks.notebook_keras", *arguments]
    place = Path(__file__).parents[1]
    printed = subprocess.run(command, cwd=place, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    epochs: list[float] = json.loads(printed.stdout.splitlines()[-1])["epochs"]
    return epochs


class Stock(pl.LightningModule):
    """What a tutorial would write."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = layers()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        clean = batch[0].flatten(1)
        noisy = clean + SIGMA * torch.randn_like(clean)
        reconstruction = torch.sigmoid(self.decoder(F.leaky_relu(self.encoder(noisy), 0.3)))
        loss = F.binary_cross_entropy(reconstruction, clean)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), eps=1e-7)


class TiledFashionMNIST(FashionMNIST):  # type: ignore[misc]
    """torchvision's own `__getitem__` over our tensor: PIL image, then the transform, one by one."""

    def __init__(self, images: Tensor) -> None:
        self.data, self.targets = images, torch.zeros(len(images), dtype=torch.int64)
        self.transform, self.target_transform = ToTensor(), None


def stock(images: Tensor) -> list[float]:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        # without its progress bar, which would only slow it down
        flags: dict[str, Any] = {"enable_progress_bar": False, "default_root_dir": folder}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[clock], **flags)
        trainer.fit(Stock(), DataLoader(TiledFashionMNIST(images), batch_size=BATCH, shuffle=True))
    return clock.epochs


def products() -> Callable[[], float]:
    """The seconds of an epoch's matrix products, of training and validation, and nothing else."""
    noisy, logits = torch.randn(WIDE, 784), torch.randn(WIDE, 784)
    codes, gradient = torch.randn(WIDE, LATENT), torch.randn(WIDE, LATENT)
    encoder, decoder = (layer.weight.detach() for layer in layers())

    def epoch() -> float:
        start = time.perf_counter()
        for _ in range(-(-IMAGES // WIDE)):
            _ = noisy @ encoder.T, codes @ decoder.T, logits.T @ codes, logits @ decoder, gradient.T @ noisy
        for _ in range(len(TASKS) * -(-HELD_OUT // WIDE)):
            _ = noisy @ encoder.T, codes @ decoder.T
        return time.perf_counter() - start

    return epoch


def peak_memory() -> float:
    """Of this process so far, in GB. (Linux; `getrusage` would count the parent's, from before the exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def main(root: str, rounds: int) -> bool:
    data, wide = (ImageDataModule(Tiled(root), batch, 50, HELD_OUT) for batch in (BATCH, WIDE))
    data.setup()
    wide.setup()
    multiply = products()
    seconds: dict[str, list[float]] = {}
    validation: list[float] = []
    for _ in range(rounds):
        plain = ours(data, rival=bare(data.train.images))
        large = ours(wide, rival=(multiply() for _ in range(EPOCHS)))
        turns: dict[str, list[float]] = {
            "bare loop": plain.rivals,
            "ours": plain.epochs,
            "Keras 2": keras(root),
            "stock Lightning": stock(data.train.images),
            "matrix products, batch 512": large.rivals,
            "ours, batch 512": large.epochs,
        }
        for name, epochs in turns.items():
            seconds[name] = seconds.get(name, []) + epochs[1:]
        validation += plain.validation[1:]
    median = {name: statistics.median(values) for name, values in seconds.items()}

    def ratio(ours: str, theirs: str) -> float:
        """The median over neighbours in time."""
        return statistics.median(a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True))

    memory = float(subprocess.check_output([sys.executable, __file__, root, "memory"], text=True).split()[-1])
    claims = {
        "ours / bare loop": (ratio("ours", "bare loop"), 1.08),
        "1.6 ours / Keras 2": (1.6 * median["ours"] / median["Keras 2"], 1.0),
        "2.5 ours / stock Lightning": (2.5 * median["ours"] / median["stock Lightning"], 1.0),
        "validation / epoch": (statistics.median(validation) / median["ours"], 0.03),
        "0.6 ours / products, batch 512": (0.6 * ratio("ours, batch 512", "matrix products, batch 512"), 1.0),
        "memory over the imports, GB": (memory, 1.2),
    }
    for name, values in seconds.items():
        print(f"{name:30} {median[name]:6.2f} s   ({min(values):.2f} to {max(values):.2f}, {len(values)} epochs)")
    for name, (value, allowed) in claims.items():
        print(f"{name:30} {value:6.3f}     (at most {allowed})")
    return all(value <= allowed for value, allowed in claims.values())


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    warnings.filterwarnings("ignore")
    if sys.argv[2:] == ["memory"]:
        before = peak_memory()
        data = ImageDataModule(Tiled(sys.argv[1]), BATCH, 50, HELD_OUT)
        data.setup()
        ours(data)
        print(peak_memory() - before)
    else:
        sys.exit(not main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5))
