"""The typed schema of `conf/`, where the values are. It is free of torch: a mistyped key is answered at once."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from dae_lightning.errors import ConfigError
from dae_lightning.kinds import (
    CallbacksKind,
    DataKind,
    EarlyStopping,
    Latent,
    LoggerKind,
    Loss,
    NetworkKind,
    NoCallbacks,
    NoiseKind,
    OptimKind,
)
from dae_lightning.schema import Count, List, NonNegative, Positive, Probability, Seed, Settings, Size

Share = Annotated[float, Field(gt=0, le=1)]
Batches = Count | Share  # a number of Lightning steps (chunks), or a share of them


OTHER_FLAGS = (
    *("accumulate_grad_batches", "barebones", "callbacks", "default_root_dir", "enable_autolog_hparams"),
    *("enable_checkpointing", "limit_predict_batches", "logger"),
    *("min_epochs", "min_steps", "model_registry", "overfit_batches", "plugins", "reload_dataloaders_every_n_epochs"),
    *("sync_batchnorm", "use_distributed_sampler", "val_check_interval"),
)
REMEDY = "not a flag of this command; train a DenoisingAutoencoder with your own Trainer (docs/extending.md)"


class Trainer(Settings):
    """Lightning's Trainer flags; OTHER_FLAGS belong to automatic optimisation, or to what the project does itself.

    What a flag means that no file of `conf/trainer/` sets stands below it, for docs/configuration.md.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Count | Annotated[tuple[Size], List]  # how many on each machine; or, as in [1], which GPU
    max_epochs: Count
    precision: Literal["32-true", "bf16-mixed"]
    enable_progress_bar: bool
    benchmark: bool | None = None
    """let cuDNN time its algorithms and take the fastest"""
    check_val_every_n_epoch: Count | None = None
    """epochs from one validation to the next"""
    detect_anomaly: bool | None = None
    """let autograd say which operation made a NaN; slow"""
    deterministic: bool | None = None
    """let torch use deterministic algorithms only"""
    enable_model_summary: bool | None = None
    """print the layers and their sizes first"""
    fast_dev_run: bool | Count | None = None
    """one Lightning step, or so many, of training, validation and test, and no checkpoint: does it run?"""
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    """what gradient_clip_val bounds: the norm of all gradients together, or each value"""
    gradient_clip_val: Positive | None = None
    """the most that the gradients of a step may be; larger ones are scaled down, or clipped"""
    inference_mode: bool | None = None
    """false: validate and test under torch.no_grad instead of torch.inference_mode"""
    limit_train_batches: Batches | None = None
    """Lightning steps of an epoch (chunks of steps_per_execution batches), or their share"""
    limit_val_batches: Batches | Literal[0] | None = None
    """batches of a validation, or their share; 0: no validation"""
    limit_test_batches: Batches | None = None
    """batches of the test, or their share"""
    log_every_n_steps: Size | None = None
    """of no effect here: metrics.csv and loggers have one entry an epoch"""
    max_steps: Count | None = None
    """end after so many optimiser steps, or after max_epochs, whichever is first"""
    max_time: str | None = None
    """end after this time, as DD:HH:MM:SS, or after max_epochs, whichever is first"""
    num_nodes: Count | None = None
    num_sanity_val_steps: Size | None = None
    """batches of a validation before the training, to find mistakes in it"""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """time Lightning's hooks (simple), every function (advanced) or every operator (pytorch)"""
    strategy: Literal["ddp"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_another_trainer(cls, values: Any) -> Any:
        if isinstance(values, dict) and (others := [key for key in values if key in OTHER_FLAGS]):
            raise ConfigError(f"{others[0]}={values[others[0]]}: {REMEDY}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.strategy is None and isinstance(self.devices, int) and self.devices > 1:
            raise ConfigError(f"devices={self.devices}: one process trains on one; trainer=ddp starts more")
        if self.strategy is None and self.num_nodes is not None:
            raise ConfigError(f"num_nodes={self.num_nodes}: only trainer=ddp trains on several machines")
        if self.strategy is not None and not isinstance(self.devices, int):
            raise ConfigError(f"devices={list(self.devices)}: trainer=ddp takes how many, and not which")
        return self

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.devices * (self.num_nodes or 1) if isinstance(self.devices, int) else 1


class Checkpoint(Settings):
    every_seconds: Positive | None
    every_n_steps: Count | None


class Command(Settings):
    """What every command takes."""

    plugins: Annotated[tuple[str, ...], List] = ()  # modules that register kinds; they have been imported by now


class Train(Command):
    """`conf/train.yaml`, whole."""

    seed: Seed
    eval_seed: Seed
    latent: Latent
    batch_size: Count
    steps_per_execution: Count
    checkpoint: Checkpoint
    examples: Count
    resume: str | None
    noise: NoiseKind
    network: NetworkKind
    data: DataKind
    optim: OptimKind
    trainer: Trainer
    logger: LoggerKind
    # absent from the runs of earlier versions, which can still be resumed
    input_scale: Positive = 1.0
    output_bias: Literal["zero", "mean_image"] = "zero"
    loss: Loss = "bce"
    cuda_graph: bool = True
    figures: bool = True
    callbacks: CallbacksKind = NoCallbacks()

    @model_validator(mode="before")
    @classmethod
    def _from_0_1(cls, values: Any) -> Any:
        """Runs that began when there was one network."""
        if isinstance(values, dict) and "network" not in values:
            return values | {"network": {"kind": "dense", "input_scale": values.get("input_scale", 1.0)}}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size < (ranks := self.trainer.ranks):
            shared = f"is shared by all {ranks} processes of trainer=ddp, an image each at least"
            raise ConfigError(f"batch_size={self.batch_size}: {shared}")
        monitor = self.callbacks.monitor if isinstance(self.callbacks, EarlyStopping) else ""
        if monitor.endswith(("bce", "mse")) and not monitor.endswith(self.loss):
            raise ConfigError(f"callbacks.monitor={monitor}: with loss={self.loss} there is {monitor[:-3]}{self.loss}")
        return self


class Search(Settings):
    """`hydra.sweeper` of `hydra/sweeper=search`, with its defaults."""

    trials: Count = 40  # settings to try
    seed: Seed = 0  # of the settings that are drawn
    pruner: Literal["median", "none"] = "median"  # ends a trial that is worse than the median one at the same epoch
    confirm: Size = 0  # of the best settings: train them again, each with two more seeds
    params: dict[str, str] | None = None  # what to search over, for those who write it in a file; as Hydra's sweeper
    trial: Size | None = None  # the search itself sets it: the trial that a job is


class Denoise(Command):
    """`conf/denoise.yaml`, whole."""

    checkpoint: str
    images: str
    output: str
    resize: bool
    corrupt: bool
    sigma: NonNegative | None
    seed: Seed
    device: str
    stride: Count | None = None


class Export(Command):
    """`conf/export.yaml`, whole."""

    checkpoint: str | Annotated[tuple[str, ...], List, Field(min_length=1)]
    format: Literal["onnx", "torch", "page"]
    output: str | None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not isinstance(self.checkpoint, str) and self.format != "page":
            raise ConfigError(f"format={self.format}: takes one checkpoint; format=page compares several")
        return self


Baseline = Literal["noisy", "noisy_clipped", "mean_image", "wiener", "posterior_mean"]
Filter = Literal["total_variation", "nl_means", "wavelet", "median", "gaussian_blur"]  # extra `baselines`
OfPhotographs = Literal["bm3d"]  # extra `bm3d`


class Evaluate(Command):
    """`conf/evaluate.yaml`, whole."""

    checkpoint: str | Annotated[tuple[str, ...], List, Field(min_length=1)]
    sigmas: Annotated[tuple[NonNegative, ...], List, Field(min_length=1)] | None
    probabilities: Annotated[tuple[Probability, ...], List, Field(min_length=1)] | None
    methods: Annotated[tuple[Literal[Baseline, Filter, OfPhotographs], ...], List, Field(min_length=1)] | None
    limit: Count | None
    eval_seed: Seed
    examples: Count
    probe: bool
    output: str
    images: str | None = None
    stride: Count | None = None
    data: DataKind | None = None  # Hydra has no value for a group from which nothing is chosen
