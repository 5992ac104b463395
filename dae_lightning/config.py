"""The typed schema of `conf/`: what every key may be. The values, and all defaults, live in the YAML files.

Light on purpose: nothing here imports torch, so that a mistyped key is answered at once.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from dae_lightning.errors import ConfigError
from dae_lightning.kinds import Data, Latent, Logger, Network, Noise, Optim
from dae_lightning.schema import Count, List, NonNegative, Positive, Probability, Seed, Settings, Size

Share = Annotated[float, Field(gt=0, le=1)]
Batches = Count | Share  # a number of Lightning steps (chunks), or a share of them


OTHER_FLAGS = (
    *("accumulate_grad_batches", "barebones", "callbacks", "default_root_dir", "enable_autolog_hparams"),
    *("enable_checkpointing", "gradient_clip_algorithm", "gradient_clip_val", "limit_predict_batches", "logger"),
    *("min_epochs", "min_steps", "model_registry", "overfit_batches", "plugins", "reload_dataloaders_every_n_epochs"),
    *("sync_batchnorm", "use_distributed_sampler", "val_check_interval"),
)
REMEDY = "not a flag of this command; train a DenoisingAutoencoder with your own Trainer (docs/extending.md)"


class Trainer(Settings):
    """Lightning's Trainer flags; those left out here, OTHER_FLAGS, clash with what the project does itself.

    (Gradient clipping, accumulation and scaling (16-mixed) belong to automatic optimisation; checkpoints, loggers,
    callbacks and samplers are ours.)
    """

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Count | Annotated[tuple[Size], List]  # how many on each machine; or, as in [1], which GPU
    max_epochs: Count
    precision: Literal["32-true", "bf16-mixed"]
    enable_progress_bar: bool
    benchmark: bool | None = None
    check_val_every_n_epoch: Count | None = None
    detect_anomaly: bool | None = None
    deterministic: bool | None = None
    enable_model_summary: bool | None = None
    fast_dev_run: bool | Count | None = None
    inference_mode: bool | None = None
    limit_train_batches: Batches | None = None
    limit_val_batches: Batches | Literal[0] | None = None
    limit_test_batches: Batches | None = None
    log_every_n_steps: Size | None = None
    max_steps: Count | None = None
    max_time: str | None = None
    num_nodes: Count | None = None
    num_sanity_val_steps: Size | None = None
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
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


class Train(Settings):
    """`conf/train.yaml`, whole."""

    seed: Seed
    eval_seed: Seed
    latent: Latent
    batch_size: Count
    steps_per_execution: Count
    checkpoint: Checkpoint
    examples: Count
    resume: str | None
    noise: Noise
    network: Network
    data: Data
    optim: Optim
    trainer: Trainer
    logger: Logger
    # absent from the runs of earlier versions, which can still be resumed
    input_scale: Positive = 1.0
    output_bias: Literal["zero", "mean_image"] = "zero"
    cuda_graph: bool = True
    figures: bool = True
    plugins: tuple[str, ...] | list[str] = ()  # modules that register kinds; they have been imported by now

    @model_validator(mode="before")
    @classmethod
    def _from_0_1(cls, values: Any) -> Any:
        """Runs that began when there was one network."""
        if isinstance(values, dict) and "network" not in values:
            return values | {"network": {"kind": "dense", "input_scale": values.get("input_scale", 1.0)}}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size < self.trainer.ranks:
            raise ConfigError(
                f"batch_size={self.batch_size}: is shared by all {self.trainer.ranks} processes of trainer=ddp, "
                f"an image each at least"
            )
        return self


class Denoise(Settings):
    """`conf/denoise.yaml`, whole."""

    plugins: tuple[str, ...] | list[str] = ()
    checkpoint: str
    images: str
    output: str
    resize: bool
    corrupt: bool
    sigma: NonNegative | None
    seed: Seed
    device: str


class Export(Settings):
    """`conf/export.yaml`, whole."""

    plugins: tuple[str, ...] | list[str] = ()
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


class Evaluate(Settings):
    """`conf/evaluate.yaml`, whole."""

    plugins: tuple[str, ...] | list[str] = ()
    checkpoint: str | Annotated[tuple[str, ...], List, Field(min_length=1)]
    sigmas: Annotated[tuple[NonNegative, ...], List, Field(min_length=1)]
    probabilities: Annotated[tuple[Probability, ...], List, Field(min_length=1)]
    methods: Annotated[tuple[Literal[Baseline, Filter], ...], List, Field(min_length=1)]
    limit: Count | None
    eval_seed: Seed
    examples: Count
    probe: bool
    output: str
    data: Data | None = None  # Hydra has no value for a group from which nothing is chosen
