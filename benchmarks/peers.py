"""The notebook's network on other libraries: seconds of a training epoch, and images denoised a second.

    python -m benchmarks.peers DIR [ROUNDS]        (extras [bench,export]; DIR holds the four official `.gz`)

Each trains 784 -> 256 -> 784 with Gaussian noise of sigma 2, Adam, binary cross-entropy and batch 32 on the 60,000
training images for three epochs, of which the first does not count, in a process of its own, by turns: first on a quiet
machine, then beside two busy Python loops. Ours is `python train.py experiment=notebook_sigma2`, with its two
checkpoints an epoch; pythae is its AE under its own trainer, which has no noise and whose loss is the squared error,
so noise and loss are ours. Then the 10,000 test images are denoised: by `Denoiser`, by onnxruntime, by `predict`.
Medians. A library that is not installed is left out.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from typing import Any

from dae_lightning.threads import WAITING

EPOCHS, LATENT, SIGMA = 3, 256, 2.0
KERAS = {
    "Keras 2": ("tf_keras", ""),
    "Keras 3, TensorFlow": ("keras", "tensorflow"),
    "Keras 3, torch": ("keras", "torch"),
}
LOOP = [sys.executable, "-c", "while True: pass"]


def ours(root: str) -> list[float]:
    from benchmarks import epoch_time

    data = epoch_time.data(root, batch_size=32, held_out=0)
    return epoch_time.ours(data, "cpu", "experiment=notebook_sigma2").epochs


def bare_loop(root: str) -> list[float]:
    from benchmarks import epoch_time

    return list(epoch_time.bare(epoch_time.data(root, batch_size=32, held_out=0).train.images))


def stock_lightning(root: str) -> list[float]:
    """What a tutorial would write: torchvision's data set, ToTensor, DataLoader, automatic optimisation."""
    import lightning.pytorch as pl
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    from benchmarks.epoch_time import Clock, data, layers

    class Stock(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = layers()

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            clean = batch[0].flatten(1)
            noisy = clean + SIGMA * torch.randn_like(clean)
            denoised = torch.sigmoid(self.decoder(F.leaky_relu(self.encoder(noisy), 0.3)))
            loss = F.binary_cross_entropy(denoised, clean)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), eps=1e-7)

    class Images(FashionMNIST):  # type: ignore[misc]
        """torchvision's own `__getitem__` over images that are read already."""

        def __init__(self, images: torch.Tensor) -> None:
            self.data, self.targets = images, torch.zeros(len(images), dtype=torch.int64)
            self.transform, self.target_transform = ToTensor(), None

    clock, images = Clock(), data(root, batch_size=32, held_out=0).train.images
    with tempfile.TemporaryDirectory() as folder:
        flags: dict[str, Any] = {"enable_progress_bar": False, "default_root_dir": folder}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[clock], **flags)
        trainer.fit(Stock(), DataLoader(Images(images), batch_size=32, shuffle=True))
    return clock.epochs


def pythae(root: str) -> list[float]:
    import torch
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback
    from torch.nn import functional as F

    from benchmarks.epoch_time import data, layers

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer, _ = layers()

        def forward(self, clean: torch.Tensor) -> Any:
            noisy = clean + SIGMA * torch.randn_like(clean)
            return ModelOutput(embedding=F.leaky_relu(self.layer(noisy.flatten(1)), 0.3))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            _, self.layer = layers()

        def forward(self, codes: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.layer(codes)).view(-1, 1, 28, 28))

    class Autoencoder(AE):  # type: ignore[misc]
        def loss_function(self, denoised: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
            return F.binary_cross_entropy(denoised, clean)

    class Clock(TrainingCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.epochs: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.epochs.append(time.perf_counter() - self.start)

    from pythae.data.datasets import BaseDataset

    images = data(root, batch_size=32, held_out=0).train.images[:, None].float() / 255
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=32, num_epochs=EPOCHS, learning_rate=1e-3, no_cuda=True
        )
        model = Autoencoder(AEConfig(input_dim=(1, 28, 28), latent_dim=LATENT), Encoder(), Decoder())
        dataset = BaseDataset(images, torch.zeros(len(images)))
        BaseTrainer(model, dataset, training_config=settings, callbacks=[clock]).train()
    return clock.epochs


def denoised_per_second(root: str) -> dict[str, float]:
    """Of the 10,000 test images, by `Denoiser` and by onnxruntime."""
    import torch

    from benchmarks.epoch_time import data
    from dae_lightning import Denoiser, DenoisingAutoencoder, GaussianNoise
    from dae_lightning.inference.export import from_onnx, to_onnx

    images = data(root, batch_size=32, held_out=0).test.images.float() / 255
    noisy = images + SIGMA * torch.randn_like(images)
    model = DenoisingAutoencoder((28, 28), LATENT, GaussianNoise(sigma=SIGMA)).eval()
    rates = {}
    for name, function in (("Denoiser", Denoiser(model)), ("onnxruntime", from_onnx(to_onnx(model)))):
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            function(noisy)
            seconds.append(time.perf_counter() - start)
        rates[name] = len(noisy) / statistics.median(seconds[1:])
    return rates


TORCH = {"ours": ours, "bare PyTorch loop": bare_loop, "stock Lightning": stock_lightning, "pythae": pythae}


def run(name: str, root: str) -> dict[str, Any]:
    """What a contestant's process prints as JSON in its last line."""
    command = [sys.executable, "-m", "benchmarks.peers", "run", name, root]
    # each decides for itself how its threads wait: the machine may be busier than when this process decided it
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    if name in KERAS:
        library, backend = KERAS[name]
        arguments = [root, str(LATENT), str(SIGMA), "0", str(EPOCHS), library]
        command = [sys.executable, "-m", "benchmarks.notebook_keras", *arguments]
        environment |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads(printed.stdout.splitlines()[-1])
    return result


def main(root: str, rounds: int = 2) -> None:
    installed = {"pythae": "pythae"} | {name: library for name, (library, _) in KERAS.items()}
    contestants = [name for name in (*TORCH, *KERAS) if name not in installed or find_spec(installed[name])]
    predicted: dict[str, list[float]] = {}
    for beside, loops in (("a quiet machine", 0), ("two busy loops", 2)):
        others = [subprocess.Popen(LOOP) for _ in range(loops)]
        try:
            epochs: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(rounds):
                for name in contestants:
                    result = run(name, root)
                    epochs[name] += result["epochs"][1:]
                    if name in KERAS and not loops:
                        predicted.setdefault(name, []).append(result["predicted_per_second"])
        finally:
            for process in others:
                process.kill()
        print(f"\n| seconds an epoch, {beside} | median (lowest to highest) | times ours |\n| --- | --- | --- |")
        for name, seconds in epochs.items():
            median = statistics.median(seconds)
            spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
            print(f"| {name} | {median:.2f} ({spread}) | {median / statistics.median(epochs['ours']):.1f} |")
    rates = run("denoising", root) | {name: statistics.median(values) for name, values in predicted.items()}
    print("\n| images denoised a second | |\n| --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} |")


if __name__ == "__main__":
    if sys.argv[1] == "run":
        warnings.filterwarnings("ignore")
        _, _, name, root = sys.argv
        print(json.dumps(denoised_per_second(root) if name == "denoising" else {"epochs": TORCH[name](root)}))
    else:
        root, *counts = sys.argv[1:]
        main(root, *map(int, counts))
