"""data=patches: which patches there are, that all places are alike, and how pictures are found, read and held out."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dae_lightning.data import patch_set
from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.data.patch_set import PatchSet
from dae_lightning.data.patches import Patches
from dae_lightning.errors import ConfigError, DataError

SIZES = ((4, 9), (7, 3), (3, 3), (5, 6))  # height and width


def picture(number: int, height: int, width: int, *colours: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (height, width, *colours), dtype=np.uint8)


PICTURES = [picture(number, *size) for number, size in enumerate(SIZES)]


def patches_of(pictures: Sequence[NDArray[np.uint8]], size: int = 3, per_epoch: int = 100) -> PatchSet:
    begins = np.cumsum([0, *(each.size for each in pictures)])[:-1]
    table = [(int(begin), *each.shape) for begin, each in zip(begins, pictures, strict=True)]
    pixels = torch.from_numpy(np.concatenate([each.ravel() for each in pictures]))
    return PatchSet(pixels, torch.tensor(table), size, per_epoch)


def by_hand(size: int = 3) -> list[NDArray[np.uint8]]:
    """The patches at every place, picture by picture, row by row."""
    return [
        each[row : row + size, column : column + size]
        for each in PICTURES
        for row, column in product(*(range(length - size + 1) for length in each.shape))
    ]


def source(root: Path, patch: int = 3) -> Patches:
    return Patches(root, test_fraction=0.25, seed=0, patch=patch, patches_per_epoch=50)


def save(root: Path, name: str, pixels: NDArray[np.uint8]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / name)


def test_a_patch_is_the_pixels_at_its_place() -> None:
    patches, expected = patches_of(PICTURES), by_hand()
    assert patches.places == len(expected) == 2 * 7 + 5 * 1 + 1 + 3 * 4
    found = patches.index_select(0, torch.arange(patches.places))
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(np.stack(expected)))


def test_the_other_indices_are_the_seven_other_symmetries_of_each_patch() -> None:
    patches, expected = patches_of(PICTURES), by_hand()
    assert len(patches) == 8 * len(expected)
    found = patches.index_select(0, torch.arange(len(patches))).view(8, -1, 3, 3).numpy()
    for place, patch in enumerate(expected):
        turned = [np.rot90(side, quarter) for side in (patch, patch.T) for quarter in range(4)]
        assert {each.tobytes() for each in turned} == {each.tobytes() for each in found[:, place]}


def test_every_place_is_alike_likely_whatever_the_size_of_its_picture() -> None:
    draws = 100_000
    loader = ChunkLoader(patches_of(PICTURES, per_epoch=draws), 1000, seed=0)
    indices = torch.cat([indices for _, indices in loader])
    places = loader.images.places  # type: ignore[union-attr]
    counts, expected = indices.bincount(minlength=8 * places), draws / (8 * places)
    assert counts.sum() == draws
    assert (counts - expected).abs().max() < 5 * expected**0.5  # standard deviations


def test_the_patches_are_a_function_of_seed_epoch_and_position() -> None:
    def drawn(seed: int, epoch: int, *sizes: int) -> Tensor:
        loader = ChunkLoader(patches_of(PICTURES), *sizes, seed=seed)
        loader.set_epoch(epoch)
        batches = [images for images, _ in loader]
        assert len(batches) == len(loader)
        return torch.cat(batches)

    assert drawn(0, 3, 8).shape == (100, 3, 3)
    assert torch.equal(drawn(0, 3, 8), drawn(0, 3, 7, 4))
    assert not torch.equal(drawn(0, 3, 8), drawn(0, 4, 8))
    assert not torch.equal(drawn(0, 3, 8), drawn(1, 3, 8))


def test_a_grid_has_patches_side_by_side_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    large = picture(5, 31, 40)
    grid = patches_of([large, picture(6, 3, 4)]).grid()
    rows = [large[row : row + 3, column : column + 3] for row in range(0, 29, 3) for column in range(0, 38, 3)]
    assert torch.equal(grid[:-1], torch.from_numpy(np.stack(rows)))
    assert torch.equal(grid[-1], torch.from_numpy(picture(6, 3, 4)[:, :3]))
    monkeypatch.setattr(patch_set, "ON_GRID", 30)
    assert 20 < len(patches_of([large]).grid()) < 45


def test_pictures_of_any_format_and_size_are_read_once_and_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.png", "b.BMP", "sub/deeper/c.tif", "sub/d.tiff")):
        save(tmp_path, name, PICTURES[number])
    colour = picture(9, 6, 5, 3)
    save(tmp_path, "colour.png", colour)
    (tmp_path / "notes.txt").write_text("words")
    opened: list[str] = []
    really_open = Image.open

    def counting(file: object, *arguments: object, **options: object) -> Image.Image:
        opened.append(Path(file.name).name)  # type: ignore[attr-defined]
        return really_open(file, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", counting)
    data = ImageDataModule(source(tmp_path), 8, val_size=1)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert all(images.shape[1:] == (3, 3) for images, _ in loader)
    assert sorted(opened) == ["a.png", "b.BMP", "c.tif", "colour.png", "d.tiff"]
    pixels = data.train.patches.pixels.numpy().tobytes()  # type: ignore[union-attr]
    assert len(pixels) == sum(height * width for height, width in (*SIZES, (6, 5)))
    assert np.array(Image.fromarray(colour).convert("L")).tobytes() in pixels
    assert all(each.tobytes() in pixels for each in PICTURES)


def levels(images: Tensor) -> set[int]:
    return set(images.unique().tolist())


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Twenty pictures, each of one grey level, its number."""
    for number in range(20):
        save(tmp_path, f"{number}.png", np.full((6 + number % 3, 7), number, np.uint8))
    return tmp_path


@pytest.mark.parametrize(("val_size", "held_out"), [(None, 1), (4, 4), (0, 0)])  # a twelfth of 15
def test_held_out_pictures_share_no_pixel_with_training_ones(plain: Path, val_size: int | None, held_out: int) -> None:
    data = ImageDataModule(source(plain), 8, val_size=val_size)
    data.setup()
    train = levels(torch.cat([images for images, _ in data.train_dataloader()] * 20))
    val, test = levels(data.val.images), levels(data.test.images)
    assert (len(val), len(test)) == (held_out, 5)
    assert data.train.size == 15 - held_out
    assert len(train | val | test) == len(train) + len(val) + len(test)
    assert levels(data.train.images) | val | test == set(range(20))
    other = ImageDataModule(source(plain), 8, val_size=val_size, split_seed=1)
    other.setup()
    assert held_out == 0 or levels(other.val.images) != val


def test_folders_say_which_pictures_are_which_and_val_size_overrules_that_of_validation(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a.png", "Training/b.png", "train/sub/c.png", "test/d.png", "valid/e.png")):
        save(tmp_path / ("mixed" if number == 1 else "root"), name, np.full((4, 4), number, np.uint8))
    data = ImageDataModule(source(tmp_path / "root"), 8)
    data.setup()
    assert [levels(each.images) for each in (data.train, data.val, data.test)] == [{0, 2}, {4}, {3}]
    assert levels(source(tmp_path / "root").load().for_training().images) == {0, 2, 4}
    none = ImageDataModule(source(tmp_path / "root"), 8, val_size=0)
    none.setup()
    assert [levels(each.images) for each in (none.train, none.test)] == [{0, 2, 4}, {3}]
    assert len(none.val.images) == 0


def test_pictures_smaller_than_a_patch_are_left_out_with_a_note(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = source(plain, patch=7).load()  # 6 rows are too few
    assert splits.train.size + splits.test.size == 13
    assert capsys.readouterr().out == "note: 7 pictures left out, which are smaller than a patch, 7x7\n"
    with pytest.raises(DataError, match=r": no train picture is as large as a patch, 9x9; lower data.patch$"):
        source(plain, patch=9).load()


def test_what_cannot_be_trained_on_is_one_line(plain: Path) -> None:
    with pytest.raises(DataError, match=r"^root: .*nowhere is not a folder; give one that holds images$"):
        source(plain / "nowhere").load()
    with pytest.raises(ConfigError, match=r"^data.val_size=15: must be less than the 15 training images$"):
        ImageDataModule(source(plain), 8, val_size=15).setup()
    (plain / "broken.png").write_bytes((plain / "1.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"broken.png cannot be read"):
        source(plain).load()


def test_more_pixels_than_fit_are_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dae_lightning.data.patches.MOST_PIXELS", 100)
    with pytest.raises(DataError, match=r": more than 100 pixels in all; give fewer or smaller pictures$"):
        source(plain).load()
