"""The rendered letters: equal for one seed, balanced, legible, varied, and whole."""

from pathlib import Path

import matplotlib
import pytest
import torch
from torch import Tensor

from dae_lightning.data import glyphs
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Glyphs(train_size=6_000, test_size=1_000, seed=0).load()


def labels(split: ImageSet) -> Tensor:
    assert split.labels is not None
    return split.labels


def class_means(split: ImageSet) -> Tensor:
    """`(10, 28, 28)` in [0, 1]."""
    return torch.stack([split.images[labels(split) == label].float().mean(0) / 255 for label in range(10)])


def test_splits_are_uint8_images_with_int64_labels_of_the_sizes_asked_for(splits: Splits) -> None:
    for split, size in zip(splits[:2], (6_000, 1_000), strict=True):
        assert split.images.shape == (size, 28, 28)
        assert split.images.dtype == torch.uint8
        assert labels(split).shape == (size,)
        assert labels(split).dtype == torch.int64


def test_one_seed_gives_the_same_letters_on_every_run(splits: Splits) -> None:
    again = Glyphs(train_size=6_000, test_size=1_000, seed=0).load()
    for first, second in zip(splits[:2], again[:2], strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(labels(first), labels(second))


def test_the_global_generator_has_no_say_and_is_left_alone(splits: Splits) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    few = Glyphs(train_size=20, test_size=20, seed=0).load()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(few.train.images, splits.train.images[:20])


def test_another_seed_gives_other_letters(splits: Splits) -> None:
    other = Glyphs(train_size=100, test_size=100, seed=1).load()
    for first, second in zip(splits[:2], other[:2], strict=True):
        assert (first.images[:100] != second.images).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("size", [0, 1, 7, 10, 1_024, 1_025])
def test_the_first_images_do_not_depend_on_how_many_follow(splits: Splits, size: int) -> None:
    few = Glyphs(train_size=size, test_size=3, seed=0).load()
    assert torch.equal(few.train.images, splits.train.images[:size])
    assert torch.equal(labels(few.train), labels(splits.train)[:size])
    assert torch.equal(few.test.images, splits.test.images[:3])


def test_every_ten_images_in_a_row_are_the_ten_letters_in_changing_order(splits: Splits) -> None:
    tens = labels(splits.train).view(-1, 10)
    assert torch.equal(tens.sort(dim=1).values, torch.arange(10).expand_as(tens))
    assert len({tuple(ten) for ten in tens.tolist()}) > 590  # of 600; 10! orders are possible


def test_no_image_occurs_twice(splits: Splits) -> None:
    images = torch.cat([splits.train.images, splits.test.images])
    assert len({image.tobytes() for image in images.numpy()}) == 7_000


def test_every_image_shows_ink_from_black_to_white_and_none_is_a_blob(splits: Splits) -> None:
    images = splits.train.images
    assert torch.equal(images.amin(dim=(1, 2)), torch.zeros(6_000, dtype=torch.uint8))
    assert images.amax(dim=(1, 2)).min() > 200
    ink = images.float().mean(dim=(1, 2)) / 255
    assert ink.min() > 0.04
    assert ink.max() < 0.85


def test_letters_reach_across_most_of_the_frame(splits: Splits) -> None:
    visible = splits.train.images > 64
    sides = torch.stack([visible.any(dim=1).sum(dim=1), visible.any(dim=2).sum(dim=1)])
    assert (
        sides.amax(dim=0).min() >= 18
    )  # 28 pixels less a margin of up to 5, less faint ends and the corners of a turned letter
    assert sides.amax(dim=0).float().mean() > 24


def test_letters_lie_within_the_frame(splits: Splits) -> None:
    """The longer side fills the frame when the margin is 0: its edges are faint, and none is cut through."""
    border = splits.train.images.clone()
    border[:, 1:-1, 1:-1] = 0
    assert border.flatten(1).float().mean(1).div(255).max() < 0.1
    assert border.amax(dim=(1, 2)).float().mean() < 100


def test_letters_stand_upright_and_are_not_mirrored(splits: Splits) -> None:
    means = class_means(splits.train)
    top, bottom = means[:, :14].sum(dim=(1, 2)), means[:, 14:].sum(dim=(1, 2))
    left, right = means[:, :, :14].sum(dim=(1, 2)), means[:, :, 14:].sum(dim=(1, 2))
    assert top[5] > 1.2 * bottom[5]  # F
    assert bottom[9] > 1.05 * top[9]  # J
    assert left[[2, 4, 5]].gt(1.1 * right[[2, 4, 5]]).all()  # C, E, F


def test_letters_are_told_apart_by_a_nearest_mean_classifier_far_above_chance(splits: Splits) -> None:
    means = class_means(splits.train).flatten(1)
    nearest = torch.cdist(splits.test.images.flatten(1).float() / 255, means).argmin(dim=1)
    accuracy = nearest.eq(labels(splits.test)).float().mean().item()
    assert 0.7 < accuracy < 0.9  # varied, too: the class means do not settle it


def test_images_of_one_letter_vary_more_than_the_mean_images_of_the_letters(splits: Splits) -> None:
    means = class_means(splits.train)
    within = (splits.train.images.float() / 255 - means[labels(splits.train)]).square().mean()
    between = (means - means.mean(dim=0)).square().mean()
    assert within > 3 * between


def test_every_face_draws_ten_different_letters() -> None:
    for face in range(len(glyphs.FACES)):
        assert len({glyphs.glyph(face, label, 0).tobytes() for label in range(10)}) == 10


def test_no_two_faces_draw_a_letter_alike() -> None:
    for label in range(10):
        drawn = {glyphs.glyph(face, label, 0).tobytes() for face in range(len(glyphs.FACES))}
        assert len(drawn) == len(glyphs.FACES)


def test_a_matplotlib_without_fonts_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match=r"DejaVuSans.ttf: no such font"):
        glyphs.glyph.__wrapped__(0, 0, 0)  # not the remembered answer
