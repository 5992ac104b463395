"""Image files in, denoised image files out: none stops the rest, and each is accounted for at the end."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.idx import read_idx, write_idx
from dae_lightning.data.pictures import (
    FORMATS,
    Bytes,
    mode_of,
    picture,
    pixels,
    read_picture,
    resized,
    write_picture,
    wrong_size,
)
from dae_lightning.errors import CheckpointError, DataError
from dae_lightning.inference.denoiser import Denoiser
from dae_lightning.inference.image_files import ImageFile, ImageFiles
from dae_lightning.randomness import derive

NAMED = 3  # files that a note names


def denoise(settings: config.Denoise, checkpoint: Path, images: ImageFiles) -> None:
    """Denoise the files, and print what was done.

    Raises:
        CheckpointError: there is no such model, or its images are no pictures.
        ConfigError: a sigma for noise that has none, no such device.
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
        print(f"passed over: {images.passed_over:,} files that are no images")
    for name, reason in skipped.items():
        print(f"skipped: {name} {reason}")
    if skipped:
        raise DataError(f"{len(skipped):,} of {files + len(skipped):,} files skipped, as said above")


class Worker:
    """Denoises one file after the other."""

    def __init__(self, settings: config.Denoise, denoiser: Denoiser) -> None:
        self.settings, self.denoiser = settings, denoiser
        self.shape = denoiser.model.input_shape
        mode = mode_of(self.shape)
        if mode is None:
            raise CheckpointError(f"checkpoint={settings.checkpoint}: takes {self.shape}, no pictures")
        self.mode, self.size = mode, (self.shape[-1], self.shape[-2])  # as Pillow has it: (width, height)
        self._note = f"resized to {self.size[0]}x{self.size[1]} and back"

    def denoise(self, file: ImageFile) -> tuple[int, list[str]]:
        """The number of images in the file, and notes on what was done besides.

        Raises:
            DataError, OSError, MemoryError: it cannot be used, or its target not be written.
        """
        # a function of the file's place in the folder: other files have no say in its noise
        seed = derive(self.settings.seed, "files", str(file.target.relative_to(self.settings.output)))
        return self._idx(file, seed) if file.kind == "idx" else self._picture(file, seed)

    def _picture(self, file: ImageFile, seed: int) -> tuple[int, list[str]]:
        size = None if self.settings.resize else self.size
        image, format, notes = read_picture(file.source, self.mode, size)
        if image.size != self.size:
            notes.append(self._note)
        small = pixels(resized(image, self.size)).reshape(self.shape)
        denoised = resized(picture(self._denoised(small, seed)), image.size)
        named = FORMATS.get(file.source.suffix.lower(), format)
        if named != format:
            notes.append(f"named as {named}, and written so, but holds {format}")
        write_picture(file.target, denoised, named)
        return 1, notes

    def _idx(self, file: ImageFile, seed: int) -> tuple[int, list[str]]:
        images = read_idx(file.source)
        if images.dim() != 3:
            raise DataError(f"holds {tuple(images.shape)}, but images are (N, height, width)")
        if self.mode != "L":
            raise DataError("holds grey images, the model takes colour ones")
        height, width = images.shape[1:]
        notes = []
        if (width, height) != self.size:
            if not self.settings.resize:
                raise DataError(wrong_size((width, height), self.size))
            notes.append(self._note)
        small = _resized_each(images.numpy(), self.size)
        denoised = self._denoised(small.reshape(-1, *self.shape), seed).reshape(small.shape)
        write_idx(file.target, torch.from_numpy(_resized_each(denoised, (width, height))))
        return len(images), notes

    def _denoised(self, images: Bytes, seed: int) -> Bytes:
        """Of one image or many; noise is added as floats, since bytes would clip it."""
        if not self.settings.corrupt:
            return self.denoiser(images)
        noisy = self.denoiser.corrupt(images, self.settings.sigma, seed)
        denoised: Bytes = (self.denoiser(noisy) * 255).round().astype(np.uint8)
        return denoised


def _resized_each(images: Bytes, size: tuple[int, int]) -> Bytes:
    """Images (N, H, W), each stretched to (width, height)."""
    if images.shape[1:] == size[::-1]:
        return images
    return np.stack([pixels(resized(picture(image), size)) for image in images])


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, OSError):
        return f"cannot be written ({error.strerror or error})"
    return str(error).removeprefix(f"{file}: ")
