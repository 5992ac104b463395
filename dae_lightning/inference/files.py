"""Denoising image files: a file that fails does not stop the others, and every file is accounted for.

Nothing here imports torch before the files are found, so that a wrong folder is reported at once.
"""

import gzip
import os
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL.Image import Resampling

from dae_lightning import config
from dae_lightning.data.photograph_files import read_photograph, write_photograph
from dae_lightning.data.pictures import FORMATS, Bytes, mode_of, picture, pixels, read_picture, write_picture
from dae_lightning.errors import CheckpointError, ConfigError, DataError, printable
from dae_lightning.inference.photograph_files import denoise_photographs, noise_level_notes

if TYPE_CHECKING:
    from dae_lightning.inference.denoiser import Denoiser

GZIP = b"\x1f\x8b"  # how packed files begin
IDX = (b"\0\0\x08\x03", b"\0\0\x08\x04")  # how images in the MNIST format begin: bytes, in three or four dimensions
RAW = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".raf", ".rw2", ".pef")  # cameras' raw files
UNSUPPORTED = (".gif", ".heic", ".avif", ".jp2", *RAW)  # reported as skipped, not silently passed over
NAMED = 3  # how many files a note names


class ImageFiles(NamedTuple):
    """What there is to denoise."""

    targets: dict[Path, Path]  # of every image file
    skipped: dict[Path, str]  # folders that cannot be opened, and why
    passed_over: int  # files that are not images


def find_images(images: str, output: str) -> ImageFiles:
    """The image file `images`, or those below that folder, and their targets below the folder `output`.

    A file keeps its name and sub-folder. Pictures are recognised by suffix, files in the MNIST format by content.
    Hidden files are ignored; links to folders are not followed.

    Raises:
        DataError: there is no such file or folder, or no image in it.
        ConfigError: `output` is a file, or a file below `images` would be overwritten.
    """
    source, folder = Path(images), Path(output)
    if not source.exists():
        raise DataError(f"images={images}: no such file or folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={output}: is a file; give a folder")
    errors: list[OSError] = []
    if source.is_dir():
        files = _below(source, errors)
        found = [file for file in files if _is_picture(file) or _is_idx(file)]
        targets = {file: folder / file.relative_to(source) for file in found}
    else:  # a single file was meant, whatever its name
        files, targets = [source], {source: folder / source.name}
    if not targets and not errors:
        raise DataError(f"images={images}: holds no PNG, JPEG, WebP, BMP or TIFF images, and no MNIST files")
    for target in targets.values():
        if target.exists() and target.resolve().is_relative_to(source.resolve()):
            raise ConfigError(f"output={output}: would overwrite {target}, one of the images; give another folder")
    skipped = {Path(error.filename): f"cannot be opened ({error.strerror})" for error in errors}
    return ImageFiles(targets, skipped, len(files) - len(targets))


def denoise(settings: config.Denoise, checkpoint: Path, images: ImageFiles) -> None:
    """Denoise the files, and print a summary.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of a model whose inputs are not pictures.
        ConfigError: a sigma for noise that has none, a key that is for other models, or a missing device.
        DataError: at the end, if a file was skipped.
    """
    from tqdm import tqdm

    from dae_lightning.inference.denoiser import Denoiser

    denoiser = Denoiser.load(checkpoint, settings.device)
    shape = denoiser.model.input_shape
    denoiser.checked_stride(settings.stride)
    if denoiser.model.patches and settings.resize:
        raise ConfigError("resize=true: the model takes photographs of any size; leave it out")
    if mode_of(shape) is None:
        raise CheckpointError(f"checkpoint={settings.checkpoint}: takes {shape}, which are not pictures")
    network, noise = denoiser.model.network, denoiser.model.noise
    if settings.sigma is not None and not settings.corrupt and not network.takes_sigma:
        remedy = f"network={network.kind} cannot be told it; with corrupt=true it is of the noise that is added"
        raise ConfigError(f"sigma={settings.sigma:g}: {remedy}")
    done, skipped = 0, dict(images.skipped)
    notes: defaultdict[str, list[Path]] = defaultdict(list)
    for source, target in tqdm(images.targets.items(), unit=" files", dynamic_ncols=True, disable=None):
        try:
            count, remarks = denoise_file(denoiser, settings, source, target)
        except DataError as error:
            skipped[source] = str(error).removeprefix(f"{printable(source)}: ")
            continue
        except OSError as error:
            skipped[source] = f"cannot be written ({error.strerror or error})"
            continue
        done += count
        for note in remarks:
            notes[note].append(source)

    files = len(images.targets) + len(images.skipped)
    print(f"{done:,} images in {files - len(skipped):,} files denoised, in {printable(settings.output)}")
    clipped = "" if settings.corrupt or noise.in_range else "; 8-bit pictures hold clipped noise, which it never saw"
    print(f"the model was trained on {noise.title()}{clipped}")
    for note, names in notes.items():
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        print(f"note: {note}: {', '.join(map(printable, names[:NAMED]))}{more}")
    if images.passed_over:
        print(f"passed over: {images.passed_over:,} files that are not images")
    for name, reason in skipped.items():
        print(f"skipped: {printable(name)} {reason}")
    if skipped:
        raise DataError(f"{len(skipped):,} of {files:,} files skipped, as listed above")


def denoise_file(denoiser: "Denoiser", settings: config.Denoise, source: Path, target: Path) -> tuple[int, list[str]]:
    """Denoise one file: the number of images in it, and notes on conversions.

    Raises:
        DataError: it cannot be used.
        OSError: `target` cannot be written.
    """
    import torch

    from dae_lightning.data.idx import grey, read_idx, write_idx
    from dae_lightning.randomness import derive

    # a function of the file's place in the folder, so that the noise does not depend on other files
    seed = derive(settings.seed, "files", str(target.relative_to(settings.output)))
    mode = mode_of(denoiser.model.input_shape)
    if not _is_picture(source) and _is_idx(source):
        stored = read_idx(source)
        images = grey(stored).numpy()
        if images.ndim != 3:
            raise DataError(f"holds {images.shape}, but images are (N, height, width)")
        if mode != "L":
            raise DataError("holds grey images, the model takes colour ones")
        notes: list[str] = []
        if denoiser.model.patches:
            images = np.stack(denoise_photographs(list(images), denoiser, settings, seed, notes))
        else:
            images = _denoised(images, denoiser, settings, seed, notes)
        write_idx(target, torch.from_numpy(images).view(stored.shape))
        return len(images), notes
    if denoiser.model.patches:
        values, format, notes, exif = read_photograph(source)
        (values,) = denoise_photographs([values], denoiser, settings, seed, notes)
        write_photograph(target, values, _named(source, format, notes), exif)
        return 1, notes
    image, format, notes = read_picture(source, mode)
    (denoised,) = _denoised(pixels(image)[None], denoiser, settings, seed, notes)
    write_picture(target, picture(denoised), _named(source, format, notes))
    return 1, notes


def _named(source: Path, format: str, notes: list[str]) -> str:
    """The format that a file's name says."""
    named = FORMATS.get(source.suffix.lower(), format)
    if named != format:
        notes.append(f"holds {format}, but is named and written as {named}")
    return named


def _denoised(images: Bytes, denoiser: "Denoiser", settings: config.Denoise, seed: int, notes: list[str]) -> Bytes:
    """Images (N, H, W) or (N, 3, H, W) denoised, and resized there and back unless they have the model's size."""
    shape = denoiser.model.input_shape
    (height, width), (rows, columns) = shape[-2:], images.shape[-2:]
    if (rows, columns) != (height, width):
        if not settings.resize:
            remedy = f"the model takes {width}x{height}; resize=true resizes it there and back"
            raise DataError(f"is {columns}x{rows} pixels, {remedy}")
        notes.append(f"resized to {width}x{height} and back")
    small = _resized(images, width, height)
    noisy: Any = small.reshape(-1, *shape)
    if settings.corrupt:  # as floats, since bytes would clip the noise
        noisy = denoiser.corrupt(noisy, settings.sigma, seed)
    network, noise = denoiser.model.network, denoiser.model.noise
    told = settings.sigma if network.takes_sigma else None
    # of a model that never saw clipped noise, the clipping is what there is to say
    if settings.sigma is None and (network.takes_sigma or (noise.in_range and not settings.corrupt)):
        notes += _noise_level(noisy, denoiser)
    denoised = denoiser(noisy, told)
    if settings.corrupt:
        denoised = (denoised * 255).round().astype(np.uint8)
    return _resized(denoised.reshape(small.shape), columns, rows)


def _noise_level(noisy: Any, denoiser: "Denoiser") -> list[str]:
    """What there is to say of the noise in images (N, *input_shape)."""
    import torch

    from dae_lightning.model.noise_level import estimate_sigma

    if denoiser.model.noise.level != "sigma" or min(noisy.shape[-2:]) < 2 or not len(noisy):
        return []
    sigma = estimate_sigma(torch.from_numpy(noisy / 255 if noisy.dtype == np.uint8 else noisy)).median()
    return noise_level_notes(float(sigma), denoiser.model)


def _resized(images: Bytes, width: int, height: int) -> Bytes:
    """Images, each stretched to that size; Lanczos' filter also averages when shrinking."""
    if images.shape[-2:] == (height, width):
        return images
    return np.stack([pixels(picture(image).resize((width, height), Resampling.LANCZOS)) for image in images])


def _below(folder: Path, errors: list[OSError]) -> list[Path]:
    """All files, sorted; `errors` receives one for each folder that cannot be opened."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _is_picture(file: Path) -> bool:
    irregular = file.exists() and not file.is_file()  # reading a pipe would wait for a writer
    return file.suffix.lower() in (*FORMATS, *UNSUPPORTED) and not irregular


def _is_idx(file: Path) -> bool:
    """By content, or by MNIST's own file names, so that a damaged file is reported."""
    if not file.is_file() or "idx3-ubyte" in file.name:
        return file.is_file()
    try:
        with file.open("rb") as plain, gzip.open(plain) if plain.peek(2).startswith(GZIP) else plain as content:
            return content.read(4) in IDX
    except (gzip.BadGzipFile, zlib.error, EOFError):
        return False
    except OSError:
        return True  # reading it again will report why it cannot be read
