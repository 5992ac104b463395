"""The choices of the config groups and the parameters of each: names, types and ranges. Free of torch.

Defaults of the commands are in `conf/`; those of Python, in the signatures of what is made of the kinds.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from dae_lightning.errors import ConfigError
from dae_lightning.schema import WHOLE, Count, Finite, Kind, List, NonNegative, Positive, Probability, Seed, Size

Beta = Annotated[float, Field(ge=0, lt=1)]
Loss = Literal["bce", "mse"]
OfDenoising = Literal["val/denoising/bce", "val/denoising/mse", "val/denoising/psnr"]
OfReconstruction = Literal["val/reconstruction/bce", "val/reconstruction/mse", "val/reconstruction/psnr"]
# beyond it, the weights of one image's pixels take gigabytes
Latent = Annotated[int, Field(strict=True, ge=1, le=2**20), WHOLE]


def monitored(loss: str = "bce") -> str:
    """The metric by which a training with this loss is judged: the lowest is the best."""
    return f"val/denoising/{loss}"


class NoiseKind(Kind):
    group = "noise"


class GaussianNoise(NoiseKind):
    kind: Literal["gaussian"]
    mean: Finite
    sigma: NonNegative
    clip: bool = False


class GaussianRange(NoiseKind):
    kind: Literal["gaussian_range"]
    mean: Finite
    low: Positive
    high: Positive
    median: Positive | None = None
    clip: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.low > self.high:
            raise ConfigError(f"low={self.low:g}: must be at most high={self.high:g}")
        if self.median is not None and not self.low <= self.median <= self.high:
            raise ConfigError(f"median={self.median:g}: must be from low={self.low:g} to high={self.high:g}")
        return self


class MaskingNoise(NoiseKind):
    kind: Literal["masking"]
    probability: Probability


class SaltAndPepperNoise(NoiseKind):
    kind: Literal["salt_and_pepper"]
    probability: Probability


Slope = Annotated[Finite, Field(ge=-1, le=1)]  # a LeakyReLU's


class NetworkKind(Kind):
    group = "network"


class DenseNetwork(NetworkKind):
    kind: Literal["dense"]
    input_scale: Positive = 1.0
    negative_slope: Slope = 0.3


class SigmaAwareNetwork(NetworkKind):
    kind: Literal["sigma_aware"]
    input_scale: Positive = 1.0
    negative_slope: Slope = 0.3


class ResidualNetwork(NetworkKind):
    kind: Literal["residual"]
    depth: Annotated[Count, Field(le=8)] = 2


class OptimKind(Kind):
    group = "optim"
    lr: Positive = 1e-3  # of a cycle the highest
    betas: Annotated[tuple[Beta, Beta], List] = (0.9, 0.999)
    eps: Positive = 1e-7  # Keras' defaults, as in conf/optim/adam.yaml; PyTorch's eps is another


class Adam(OptimKind):
    kind: Literal["adam"]


class AdamOneCycle(OptimKind):
    kind: Literal["adam_onecycle"]
    warmup: Beta  # share of the training in which the rate rises


class DataKind(Kind):
    group = "data"
    seed: Seed = 0
    val_size: Size | None = None


class MnistFiles(DataKind):
    kind: Literal["fashion_mnist", "mnist", "kmnist", "idx"]
    root: str


class Glyphs(DataKind):
    kind: Literal["glyphs"]
    train_size: Annotated[Count, Field(le=60_000)]
    test_size: Annotated[Count, Field(le=60_000)]


class ImageFolder(DataKind):
    kind: Literal["image_folder"]
    root: str
    test_fraction: Annotated[float, Field(gt=0, lt=1)]


class Patches(DataKind):
    kind: Literal["patches"]
    root: str
    patch: Annotated[int, Field(strict=True, ge=3, le=64), WHOLE]
    patches_per_epoch: Count
    test_fraction: Annotated[float, Field(gt=0, lt=1)]


class LoggerKind(Kind):
    group = "logger"


class CsvLogger(LoggerKind):
    kind: Literal["csv"]


class TensorBoardLogger(LoggerKind):
    kind: Literal["tensorboard"]
    every_n_epochs: Count
    examples: Count


class MLflowLogger(LoggerKind):
    kind: Literal["mlflow"]
    experiment: str
    root: str  # of the SQLite file
    tracking_uri: str | None


class WandbLogger(LoggerKind):
    kind: Literal["wandb"]
    project: str
    offline: bool


class CallbacksKind(Kind):
    group = "callbacks"


class NoCallbacks(CallbacksKind):
    kind: Literal["none"] = "none"


class EarlyStopping(CallbacksKind):
    kind: Literal["early_stopping"]
    monitor: Literal[OfDenoising, OfReconstruction, "train/loss"]
    patience: Count
    min_delta: NonNegative
