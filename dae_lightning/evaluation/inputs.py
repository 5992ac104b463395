"""The images that checkpoints are evaluated on: by default those that they were trained on."""

from collections.abc import Mapping
from pathlib import Path

from dae_lightning import kinds, schema
from dae_lightning.data.sources import make_source
from dae_lightning.data.splits import Splits
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.checkpoint import read_checkpoint


def recorded_data(checkpoints: Mapping[str, Path]) -> kinds.DataKind:
    """The images that all these checkpoints were trained on.

    Raises:
        CheckpointError: they do not say, or they do not agree.
    """
    found: list[kinds.DataKind] = []
    for place, path in checkpoints.items():
        if (data := read_checkpoint(path).get("data")) is None:
            raise CheckpointError(f"checkpoint={place}: does not say what it was trained on; choose data=")
        found.append(schema.check(kinds.DataKind, data, "data"))
        if make_source(found[-1]) != make_source(found[0]):  # they may differ in what they held out
            raise CheckpointError(f"checkpoint: {place} was trained on other data than the first; choose data=")
    return found[0]


def load_images(data: kinds.DataKind, models: Mapping[str, DenoisingAutoencoder]) -> Splits:
    """The images, not yet divided as a run divides them.

    Raises:
        DataError: they cannot be read.
        CheckpointError: a model takes images of another shape.
    """
    source = make_source(data)
    source.prepare()
    splits = source.load()
    shape = tuple(splits.test.images.shape[1:])
    for place, model in models.items():
        if model.input_shape != shape:
            raise CheckpointError(
                f"checkpoint={place}: takes images of {model.input_shape}, but those of the data are {shape}"
            )
    return splits
