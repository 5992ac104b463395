"""The model as an ordinary LightningModule: stock Trainer, stock loaders, stock callbacks."""

import gzip
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateFinder, ModelCheckpoint, ModelSummary
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

import dae_lightning
from dae_lightning import (
    Denoiser,
    DenoisingAutoencoder,
    GaussianNoise,
    Glyphs,
    ImageDataModule,
    StopAfterStep,
    TrainingBar,
)
from dae_lightning.signals import Interrupted
from dae_lightning.training.many_steps import FusedAdam, ManySteps

CLEAN = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0)) ** 2
LABELS = torch.arange(50) % 10
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*number of training batches",
    "ignore:.*have no `val_dataloader`",
    "ignore:.*AMP with fp16 is not supported on CPU",
    "ignore:Checkpoint directory",
    "ignore:.*overfit",
    "ignore:.*shuffling",
    "ignore:.*grad attribute of a Tensor that is not a leaf",  # Dynamo looks at it
)


def model(**changes: Any) -> DenoisingAutoencoder:
    return DenoisingAutoencoder(**{"input_shape": (28, 28), "latent": 8, "noise": GaussianNoise(sigma=2)} | changes)


def trainer(**flags: Any) -> lightning.Trainer:
    return lightning.Trainer(**{"max_epochs": 2, "enable_checkpointing": False} | QUIET | flags)


def loader(batch_size: int = 16, **flags: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(CLEAN, LABELS), batch_size, **flags)


class Recorder(GaussianNoise):
    """Gaussian noise that remembers what it added."""

    def __init__(self) -> None:
        super().__init__(sigma=2.0)
        self.added: list[torch.Tensor] = []

    def corrupt(self, clean: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        noisy = super().corrupt(clean, generator)
        self.added.append((noisy - clean)[0])
        return noisy


def test_the_notebook_in_two_lines_with_torchvisions_own_data_set(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 64), ("t10k", 32)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            values = np.random.default_rng(0).integers(0, 10, shape, dtype=np.uint8)
            header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
            (raw / f"{split}-{kind}-ubyte").write_bytes(header + values.tobytes())
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    model = DenoisingAutoencoder(input_shape=(28, 28), latent=256, noise=GaussianNoise(sigma=2))
    before = model.network.encoder.weight.clone()
    data = DataLoader(FashionMNIST(tmp_path, transform=ToTensor(), download=True), 32, shuffle=True)
    lightning.Trainer(max_epochs=1, **QUIET, enable_checkpointing=False).fit(model, data)
    assert model.batches_seen == 2
    assert not torch.equal(model.network.encoder.weight, before)


@pytest.mark.parametrize(
    "flags",
    [
        {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2},
        {"precision": "16-mixed", "gradient_clip_val": 0.5},
        {"precision": "bf16-mixed", "gradient_clip_val": 0.5},
        {"precision": "64-true"},
        {"precision": "bf16-true"},
        {"fast_dev_run": True},
        {"overfit_batches": 2},
        {"callbacks": [EarlyStopping("val/denoising/bce")]},
        {"callbacks": [ModelSummary(max_depth=2)], "enable_model_summary": True},
    ],
    ids=lambda flags: ", ".join(
        name if isinstance(value, list) else f"{name}={value}" for name, value in flags.items()
    ),
)
def test_it_trains_with_what_the_trainer_offers(flags: dict[str, Any]) -> None:
    learning, fit = model(), trainer(**flags)
    before = learning.network.encoder.weight.clone()
    fit.fit(learning, loader(), loader(25))
    assert not torch.equal(learning.network.encoder.weight.float(), before)
    assert fit.callback_metrics["val/denoising/bce"].isfinite()


def test_a_stock_model_checkpoint_on_the_validation_loss_loads(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, monitor="val/denoising/bce")
    stopping = EarlyStopping("val/denoising/bce")  # both keep the score as a float64 tensor
    fit = trainer(callbacks=[best, stopping], enable_checkpointing=True, logger=CSVLogger(tmp_path))
    fit.fit(learning := model(), loader(), loader(25))
    loaded = DenoisingAutoencoder.load_from_checkpoint(best.best_model_path)
    assert loaded.latent == learning.latent
    assert torch.equal(Denoiser.load(best.best_model_path, "cpu")(CLEAN[:, 0]), loaded.eval()(CLEAN[:, 0]))
    assert "val/denoising/bce" in next(tmp_path.rglob("metrics.csv")).read_text()


def test_a_learning_rate_that_the_finder_sets_is_the_optimisers(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=30, min_lr=1e-5)
    fit = trainer(callbacks=[finder], default_root_dir=tmp_path)
    fit.fit(learning := model(), loader(4))
    assert finder.optimal_lr is not None
    assert fit.optimizers[0].param_groups[0]["lr"] == learning.lr == finder.optimal_lr.suggestion()


def test_one_cycle_moves_with_every_step() -> None:
    optim = {"kind": "adam_onecycle", "lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-7, "warmup": 0.5}
    fit = trainer()
    fit.fit(model(optim=optim), loader())
    (schedule,) = fit.lr_scheduler_configs
    assert schedule.scheduler.total_steps == schedule.scheduler.last_epoch == 8  # type: ignore[union-attr]


def test_predictions_are_the_denoised_images_in_the_shape_that_came() -> None:
    fit, trained = trainer(), model()
    (first, *_) = fit.predict(trained, loader(50))  # type: ignore[misc]
    assert first.shape == CLEAN.shape
    assert torch.equal(first[:, 0], trained.eval()(CLEAN[:, 0]))


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_every_stage_takes_either_kind_of_data_in_every_precision(precision: Any) -> None:
    ours = ImageDataModule(Glyphs(60, 20, 0), 16)
    trained = model()
    for data in ({"datamodule": ours}, {"dataloaders": loader(25)}):
        fit = trainer(precision=precision, max_epochs=1)
        fit.fit(trained, ours)
        (scores,) = fit.test(trained, **data, verbose=False)
        (first, *_) = fit.predict(trained, **data)  # type: ignore[misc]
        assert all(math.isfinite(score) for score in scores.values())
        assert first.dtype == trained.dtype == {"64-true": torch.float64, "bf16-true": torch.bfloat16}[precision]
    assert Denoiser(trained, "cpu")(CLEAN[:, 0]).dtype == torch.float32


def test_our_data_module_gives_an_ordinary_module_batches_whatever_many_steps_would_get() -> None:
    sizes = []

    class Noted(DenoisingAutoencoder):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            sizes.append(len(batch[0]))
            return super().training_step(batch, batch_idx)

    noted = Noted((28, 28), 8, GaussianNoise(sigma=2))
    trainer(max_epochs=1).fit(noted, ImageDataModule(Glyphs(60, 20, 0), 16, steps_per_execution=3, val_size=10))
    assert sizes == [16, 16, 16, 2]


def test_predictions_of_our_data_module_are_its_test_images_denoised() -> None:
    data, trained = ImageDataModule(Glyphs(60, 20, 0), 16), model()
    (first,) = trainer().predict(trained, datamodule=data)  # type: ignore[misc]
    assert torch.equal(first, trained.eval()(data.test.images / 255))


@pytest.mark.filterwarnings("ignore:Exporting a model while it is in training mode")
@pytest.mark.parametrize("training", [True, False], ids=["training mode", "evaluation mode"])
def test_an_onnx_export_is_the_denoiser_without_noise(tmp_path: Path, training: bool) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    learning, images = model().train(training), CLEAN[:3, 0]
    learning.to_onnx(tmp_path / "model.onnx", images)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (denoised,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(denoised), learning.eval()(images))
    assert learning.noise.train()(images).min() < 0  # it is noisy still


def test_several_validation_loaders_are_judged_as_one_set() -> None:
    fit, learning = trainer(), model()
    scores = []
    for loaders in ([DataLoader(CLEAN[:30], 25), DataLoader(CLEAN[30:], 5)], loader(50)):
        fit.validate(learning, loaders, verbose=False)
        scores.append(fit.callback_metrics["val/reconstruction/bce"].item())
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)
    fit.fit(learning, loader(), [loader(25), loader(10)])
    assert fit.callback_metrics["val/denoising/bce"].isfinite()


def sgd(model: DenoisingAutoencoder) -> Any:
    return SGD(model.parameters(), 0.1)


def adamw_with_cosine(model: DenoisingAutoencoder) -> Any:
    optimizer = AdamW(model.parameters(), 0.01)
    return [optimizer], [CosineAnnealingLR(optimizer, 4)]


@pytest.mark.parametrize(("configure", "rate"), [(sgd, 0.1), (adamw_with_cosine, 0.005)])
def test_other_optimisers_are_one_method(configure: Any, rate: float, tmp_path: Path) -> None:
    class Mine(DenoisingAutoencoder):
        configure_optimizers = configure

    fit, learning = trainer(), Mine((28, 28), 8, GaussianNoise(sigma=2))
    before = learning.network.encoder.weight.clone()
    fit.fit(learning, loader())
    assert not torch.equal(learning.network.encoder.weight, before)
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)  # half-way down the cosine
    fit.save_checkpoint(tmp_path / "model.ckpt")
    resumed = Mine((28, 28), 8, GaussianNoise(sigma=2))
    trainer(max_epochs=3).fit(resumed, loader(), ckpt_path=tmp_path / "model.ckpt")
    assert resumed.batches_seen == 12


@pytest.mark.parametrize("kind", [DenoisingAutoencoder, ManySteps])
def test_a_callback_sees_the_loss_of_the_epoch_that_ends(kind: type[DenoisingAutoencoder]) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.losses.append(trainer.callback_metrics["train/loss"].item())

    runs = []
    for epochs in (1, 2, 3):  # the last epoch's is what the trainer says afterwards
        fit = trainer(max_epochs=epochs, callbacks=[seen := Seen()])
        fit.fit(kind((28, 28), 8, GaussianNoise(sigma=2)), ImageDataModule(Glyphs(60, 20, 0), 16, 2))
        runs.append(fit.callback_metrics["train/loss"].item())
    assert seen.losses == runs
    assert len(set(runs)) == 3


def test_our_bar_suits_any_trainer_and_is_a_line_an_epoch_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    fit = trainer(callbacks=[TrainingBar()], enable_progress_bar=True)
    fit.fit(model(), loader(), loader(25))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    loss, bce = (float(fit.callback_metrics[name]) for name in ("train/loss", "val/denoising/bce"))
    assert f"train/loss {loss:.4f}  val/denoising/bce {bce:.4f}" in lines[-1]


def test_ctrl_c_ends_a_fit_between_two_steps_and_restores_the_handler() -> None:
    class Press(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 5:
                signal.raise_signal(signal.SIGINT)

    before, learning = signal.getsignal(signal.SIGINT), model()
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 6"):
        trainer(max_epochs=-1, callbacks=[StopAfterStep(), Press()]).fit(learning, loader())
    assert learning.batches_seen == 6  # the step in which it came was finished
    assert signal.getsignal(signal.SIGINT) is before
    trainer(max_epochs=1).fit(learning, loader())
    assert learning.batches_seen == 10


def test_a_compiled_model_trains() -> None:
    compiled = torch.compile(learning := model(), backend="eager")
    before = learning.network.encoder.weight.clone()
    trainer(max_epochs=1).fit(compiled, loader())  # type: ignore[arg-type]
    assert not torch.equal(learning.network.encoder.weight, before)


def test_it_trains_in_a_thread_that_is_not_the_main_one() -> None:
    learning = model()
    thread = threading.Thread(target=lambda: trainer().fit(learning, loader()))
    thread.start()
    thread.join()
    assert learning.batches_seen == 8


def test_no_two_training_batches_have_the_same_noise_even_when_gradients_accumulate() -> None:
    noise = Recorder()
    trainer(accumulate_grad_batches=4).fit(model(noise=noise), loader(10))
    assert len(noise.added) == 10
    assert len({tuple(added.flatten()[:3].tolist()) for added in noise.added}) == 10
    again = Recorder()
    trainer().fit(model(noise=again), loader(10))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(noise.added, again.added, strict=True))


@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_a_model_in_evaluation_mode_as_one_that_was_loaded_still_trains_with_noise() -> None:
    noise = Recorder()
    trainer(max_epochs=1).fit(model(noise=noise).eval(), loader(10))
    assert len(noise.added) == 5
    assert all(added.std() > 1.5 for added in noise.added)


def test_ranks_draw_noise_of_their_own() -> None:
    first, second = (model().noise_generator(rank).initial_seed() for rank in (0, 1))
    assert first != second


SCRIPT = """
import lightning, torch
from torch.utils.data import DataLoader
from dae_lightning import DenoisingAutoencoder, GaussianNoise

class Noted(DenoisingAutoencoder):
    def corrupt_fixed(self, clean, indices):
        torch.save(indices, f"{self.global_rank}-{indices[0]}.indices")
        return super().corrupt_fixed(clean, indices)

    def on_fit_end(self):
        torch.save(self.state_dict(), f"{self.global_rank}.weights")

if __name__ == "__main__":
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = Noted((28, 28), 4, GaussianNoise(sigma=2))
    flags = dict(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp_spawn", num_sanity_val_steps=0)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    lightning.Trainer(**flags, **quiet).fit(model, DataLoader(images, 5), DataLoader(images, 5))
"""


@pytest.mark.slow
def test_it_trains_under_stock_ddp_with_noise_by_position_in_validation(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(dae_lightning.__file__).parent.parent)}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, check=True, timeout=300)
    first, second = (torch.load(tmp_path / f"{rank}.weights", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    seen = torch.cat([torch.load(path, weights_only=True) for path in tmp_path.glob("*.indices")])
    assert sorted(seen.tolist()) == list(range(40))  # each image's own, as in a single process


def test_validation_noise_belongs_to_a_position_not_to_a_label_and_is_the_same_in_every_epoch() -> None:
    noise = Recorder()
    learning = model(noise=noise)
    same_labels = DataLoader(TensorDataset(CLEAN[:6], torch.zeros(6)), 3)
    for _ in range(2):
        trainer().validate(learning, same_labels, verbose=False)
    assert len(noise.added) == 12  # one draw an image
    assert len({tuple(added.flatten()[:3].tolist()) for added in noise.added[:6]}) == 6
    assert all(torch.equal(a, b) for a, b in zip(noise.added[:6], noise.added[6:], strict=True))


@pytest.mark.parametrize("kind", [DenoisingAutoencoder, ManySteps])
def test_noise_stays_noise_when_an_ordinary_validation_loader_shuffles(kind: type[DenoisingAutoencoder]) -> None:
    class Noted(kind):  # type: ignore[valid-type, misc]
        def judge(self, stage: str, clean: torch.Tensor, noisy: torch.Tensor) -> None:
            deviations.append((noisy - clean).std().item())
            super().judge(stage, clean, noisy)

    deviations: list[float] = []
    images = (torch.arange(20) % 2).float().view(-1, 1, 1).expand(20, 28, 28)  # black or white: no two noises alike
    labels = torch.zeros(20, dtype=torch.int64)
    shuffled = DataLoader(TensorDataset(images, labels), 10, shuffle=True)
    fit = trainer(max_epochs=4, num_sanity_val_steps=0)
    fit.fit(Noted((28, 28), 8, GaussianNoise(sigma=0.1)), DataLoader([(images,)], batch_size=None), shuffled)  # type: ignore[arg-type]
    assert deviations == pytest.approx([0.1] * 8, rel=0.05)


def test_another_loss_is_one_method() -> None:
    class Mse(DenoisingAutoencoder):
        def loss(self, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
            return F.mse_loss(self.decode(self.encode(noisy)), clean)

    fit = trainer(max_epochs=1)
    fit.fit(Mse((28, 28), 8, GaussianNoise(sigma=0)), loader(50))
    untrained = model().eval()(CLEAN)
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(F.mse_loss(untrained, CLEAN).item(), rel=1e-5)


def test_images_that_are_not_in_0_to_1_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\] \(divide bytes by 255\)"):
        trainer().fit(model(), DataLoader(255 * CLEAN, 16))  # type: ignore[arg-type]


@pytest.mark.parametrize("adam", [Adam, FusedAdam])
@pytest.mark.parametrize("clipped", [{}, {"gradient_clip_val": 0.01}, {"gradient_clip_algorithm": "value"}], ids=str)
def test_many_steps_at_a_time_end_at_the_weights_of_the_textbook_step(
    adam: type[Adam], clipped: dict[str, Any]
) -> None:
    clipped = {"gradient_clip_val": 1e-4} | clipped if clipped else {}
    textbook = model()
    fast = ManySteps((28, 28), 8, GaussianNoise(sigma=2))
    fast.optimizer_class = adam
    for flag, value in clipped.items():
        setattr(fast, flag, value)
    batches = list(CLEAN.squeeze(1).split(10))
    chunks = [tuple(batches[:3]), tuple(batches[3:])]
    trainer(max_epochs=4, **clipped).fit(textbook, DataLoader(CLEAN, 10))  # type: ignore[arg-type]
    trainer(max_epochs=4).fit(fast, DataLoader(chunks, batch_size=None))  # type: ignore[arg-type]
    for ours, theirs in zip(fast.parameters(), textbook.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if adam is Adam else 1e-6)
