"""Denoising image files: a file that fails does not stop the others, and every file is accounted for at the end."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Resampling
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.idx import read_idx, write_idx
from dae_lightning.data.pictures import FORMATS, Bytes, mode_of, picture, pixels, read_picture, write_picture
from dae_lightning.errors import CheckpointError, DataError
from dae_lightning.inference.denoiser import Denoiser
from dae_lightning.inference.image_files import ImageFile, ImageFiles
from dae_lightning.randomness import derive

NAMED = 3  # how many files a note names


def denoise(settings: config.Denoise, checkpoint: Path, images: ImageFiles) -> None:
    """Denoise the files, and print a summary.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of a model whose inputs are not pictures.
        ConfigError: a sigma for noise that has none, or a missing device.
        DataError: at the end, if a file was skipped.
    """
    worker = Worker(settings, Denoiser.load(checkpoint, settings.device))
    done, skipped = 0, dict(images.skipped)
    notes: defaultdict[str, list[Path]] = defaultdict(list)
    for file in tqdm(images.files, unit=" files", dynamic_ncols=True, disable=None):
        try:
            count, remarks = worker.denoise(file)
        except (DataError, OSError, MemoryError) as error:
            skipped[file.source] = _reason(error, file.source)
            continue
        done += count
        for note in remarks:
            notes[note].append(file.source)

    files = len(images.files) + len(images.skipped) - len(skipped)
    print(f"{done:,} images in {files:,} files denoised, in {settings.output}")
    for note, names in notes.items():
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        print(f"note: {note}: {', '.join(map(str, names[:NAMED]))}{more}")
    if images.passed_over:
        print(f"passed over: {images.passed_over:,} files that are not images")
    for name, reason in skipped.items():
        print(f"skipped: {name} {reason}")
    if skipped:
        raise DataError(f"{len(skipped):,} of {files + len(skipped):,} files skipped, as listed above")


class Worker:
    """Denoises one file after another."""

    def __init__(self, settings: config.Denoise, denoiser: Denoiser) -> None:
        self.settings, self.denoiser = settings, denoiser
        self.shape = denoiser.model.input_shape
        mode = mode_of(self.shape)
        if mode is None:
            raise CheckpointError(f"checkpoint={settings.checkpoint}: takes {self.shape}, which are not pictures")
        self.mode, self.size = mode, (self.shape[-1], self.shape[-2])  # (width, height), as in Pillow

    def denoise(self, file: ImageFile) -> tuple[int, list[str]]:
        """The number of images in the file, and notes on conversions.

        Raises:
            DataError, OSError, MemoryError: it cannot be used, or its target cannot be written.
        """
        # a function of the file's place in the folder, so that the noise does not depend on other files
        seed = derive(self.settings.seed, "files", str(file.target.relative_to(self.settings.output)))
        return self._idx(file, seed) if file.is_idx else self._picture(file, seed)

    def _picture(self, file: ImageFile, seed: int) -> tuple[int, list[str]]:
        image, format, notes = read_picture(file.source, self.mode)
        denoised = self._denoised(pixels(image)[None], seed, notes)
        named = FORMATS.get(file.source.suffix.lower(), format)
        if named != format:
            notes.append(f"holds {format}, but is named and written as {named}")
        write_picture(file.target, picture(denoised[0]), named)
        return 1, notes

    def _idx(self, file: ImageFile, seed: int) -> tuple[int, list[str]]:
        images = read_idx(file.source)
        if images.dim() != 3:
            raise DataError(f"holds {tuple(images.shape)}, but images are (N, height, width)")
        if self.mode != "L":
            raise DataError("holds grey images, the model takes colour ones")
        notes: list[str] = []
        write_idx(file.target, torch.from_numpy(self._denoised(images.numpy(), seed, notes)))
        return len(images), notes

    def _denoised(self, images: Bytes, seed: int, notes: list[str]) -> Bytes:
        """Of images (N, H, W) or (N, 3, H, W), resized and back where they do not have the model's size."""
        size, (width, height) = (images.shape[-1], images.shape[-2]), self.size
        if size != self.size:
            if not self.settings.resize:
                right = f"the model takes {width}x{height}; resize=true resizes it there and back"
                raise DataError(f"is {size[0]}x{size[1]} pixels, {right}")
            notes.append(f"resized to {width}x{height} and back")
        small = _resized(images, self.size)
        batch = small.reshape(-1, *self.shape)
        if self.settings.corrupt:  # as floats, since bytes would clip the noise
            noisy = self.denoiser.corrupt(batch, self.settings.sigma, seed)
            denoised = (self.denoiser(noisy) * 255).round().astype(np.uint8)
        else:
            denoised = self.denoiser(batch)
        return _resized(denoised.reshape(small.shape), size)


def _resized(images: Bytes, size: tuple[int, int]) -> Bytes:
    """Images, each stretched to (width, height); Lanczos' filter also averages when shrinking."""
    if (images.shape[-1], images.shape[-2]) == size:
        return images
    return np.stack([pixels(picture(image).resize(size, Resampling.LANCZOS)) for image in images])


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, OSError):
        return f"cannot be written ({error.strerror or error})"
    return str(error).removeprefix(f"{file}: ")
