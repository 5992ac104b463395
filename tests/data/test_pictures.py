"""Picture files as cameras, scanners and other programs leave them: the right values, or one line that says why not."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from dae_lightning.data.pictures import Picture, read_picture
from dae_lightning.errors import DataError

Tags = dict[int, tuple[int, ...]]

SIDE = 32
RAMP = np.linspace(0, 1, SIDE)[None].repeat(SIDE, axis=0)  # black on the left, white on the right
COLOUR = np.stack([RAMP, 1 - RAMP, RAMP.T])  # in planes
SIZE: Tags = {256: (SIDE,), 257: (SIDE,), 278: (SIDE,)}
RGB: Tags = SIZE | {262: (2,), 277: (3,)}
NO_PIXELS = bytes(8 * 3 * SIDE * SIDE)


def tiff(*pages: tuple[Tags, bytes]) -> bytes:
    """A TIFF file of pages with these tags, each with its pixels in one strip."""
    file, link = bytearray(b"II*\0" + bytes(4)), 4
    for tags, strip in pages:
        values = {273: (len(file),), 279: (len(strip),)} | tags
        file += strip + bytes(len(strip) % 2)
        entries = b""
        for tag in sorted(values):
            several = len(values[tag]) > 1
            entries += struct.pack("<HHII", tag, 4, len(values[tag]), len(file) if several else values[tag][0])
            file += struct.pack(f"<{len(values[tag])}I", *values[tag]) if several else b""
        file[link : link + 4] = struct.pack("<I", len(file))
        file += struct.pack("<H", len(values)) + entries
        link = len(file)
        file += bytes(4)
    return bytes(file)


def grey(bits: int, photometric: int = 1) -> Tags:
    return SIZE | {258: (bits,), 262: (photometric,), 277: (1,)}


def scaled(values: NDArray[np.float64], bits: int) -> bytes:
    """Values from 0 to 1 as integers of 8, 12 or 16 bits."""
    whole = (values * (2**bits - 1)).round().astype(np.uint16)
    if bits == 12:  # two in three bytes
        a, b = whole.reshape(-1, 2).T
        return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()
    return bytes(whole.astype("u1" if bits == 8 else "<u2"))


def read(path: Path, content: bytes, mode: str | None = "RGB") -> Picture:
    path.write_bytes(content)
    return read_picture(path, mode)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content)
    return str(caught.value)


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("tags", "content"),
    [
        pytest.param(grey(8), scaled(RAMP, 8), id="8 bits"),
        pytest.param(grey(12), scaled(RAMP, 12), id="12 bits"),
        pytest.param(grey(16), scaled(RAMP, 16), id="16 bits"),
        pytest.param(grey(8, 0), scaled(1 - RAMP, 8), id="8 bits, white is zero"),
        pytest.param(grey(16, 0), scaled(1 - RAMP, 16), id="16 bits, white is zero"),
    ],
)
def test_a_grey_ramp_is_read_as_its_tags_say(tmp_path: Path, tags: Tags, content: bytes, compressed: bool) -> None:
    page = (tags | {259: (8,)}, zlib.compress(content)) if compressed else (tags, content)
    image = read(tmp_path / "a.tif", tiff(page), "L").image
    np.testing.assert_allclose(np.array(image), RAMP * 255, atol=0.51)


@pytest.mark.parametrize(
    ("tags", "content"),
    [
        pytest.param({258: (8, 8, 8)}, scaled(COLOUR.transpose(1, 2, 0), 8), id="8 bits"),
        pytest.param({258: (16, 16, 16)}, scaled(COLOUR.transpose(1, 2, 0), 16), id="16 bits"),
    ],
)
def test_a_colour_ramp_is_read_as_its_tags_say(tmp_path: Path, tags: Tags, content: bytes) -> None:
    image = read(tmp_path / "a.tif", tiff((RGB | tags, content))).image
    np.testing.assert_allclose(np.array(image), COLOUR.transpose(1, 2, 0) * 255, atol=1)


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(grey(8) | {339: (2,)}, id="8-bit signed grey"),
        pytest.param(grey(16) | {339: (2,)}, id="16-bit signed grey"),
        pytest.param(grey(14), id="14-bit grey"),
        pytest.param(grey(32), id="32-bit grey"),
        pytest.param(grey(12, 0), id="12-bit grey"),
        pytest.param(grey(32) | {339: (3,)}, id="32-bit float grey"),
        pytest.param(RGB | {258: (32, 32, 32), 339: (3, 3, 3)}, id="32-bit float RGB"),
        pytest.param(RGB | {258: (16, 16, 16), 284: (2,)}, id="16-bit RGB in planes"),
        pytest.param(RGB | {258: (8, 8, 8), 262: (6,)}, id="8-bit YCbCr"),  # by default one colour for four pixels
        pytest.param(SIZE | {258: (8, 8), 262: (1,), 277: (2,)}, id="8-bit grey"),
        pytest.param(grey(8) | {259: (34712,)}, id="8-bit grey compressed by method 34712"),
        pytest.param(grey(8, 777), id="8-bit of unknown colours"),
    ],
)
def test_pixels_that_cannot_be_trusted_are_refused(tmp_path: Path, tags: Tags) -> None:
    message = refusal(tmp_path / "a.tif", tiff((tags, NO_PIXELS)))
    assert message.startswith(f"is a TIFF whose pixels cannot be read (BitsPerSample {max(tags[258])}")
    assert message.endswith("); save it as PNG")


PREVIEW = (RGB | {258: (8, 8, 8), 254: (1,)}, bytes(3 * SIDE * SIDE))
MOSAIC = (grey(16, 32803), bytes(2 * SIDE * SIDE))


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([(PREVIEW[0] | {330: (8,)}, PREVIEW[1])], id="the mosaic in a sub-directory"),
        pytest.param([PREVIEW, MOSAIC], id="the mosaic on the next page"),
        pytest.param([MOSAIC], id="the mosaic alone"),
        pytest.param([(PREVIEW[0] | {254: (0,), 50706: (1,)}, PREVIEW[1])], id="DNG"),
    ],
)
@pytest.mark.parametrize("name", ["photo.nef", "photo.dng", "photo.tif"])
def test_a_raw_file_is_refused_instead_of_its_preview(tmp_path: Path, pages: list[Any], name: str) -> None:
    message = refusal(tmp_path / name, tiff(*pages))
    assert message == "is a camera's raw file, or begins with a preview of its picture; export it as PNG or JPEG"


def test_a_thumbnail_behind_a_picture_is_no_second_picture(tmp_path: Path) -> None:
    picture = (grey(8), scaled(RAMP, 8))
    image = read(tmp_path / "a.tif", tiff(picture, PREVIEW), "L").image
    np.testing.assert_allclose(np.array(image), RAMP * 255, atol=0.51)
    assert refusal(tmp_path / "a.tif", tiff(picture, PREVIEW, picture)) == "holds 2 frames; give them as single images"


def test_a_picture_that_is_the_reduced_copy_of_another_file_is_a_picture(tmp_path: Path) -> None:
    tags = grey(8) | {254: (1,)}
    assert np.array(read(tmp_path / "a.tif", tiff((tags, scaled(RAMP, 8)))).image).max() == 255


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
def test_lab_is_converted_by_way_of_rgb(tmp_path: Path, compression: str) -> None:
    colour = Image.new("RGB", (4, 4), (200, 80, 40))
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(colour, *spaces, outputMode="LAB")
    assert lab is not None
    content = saved(lab, "TIFF", compression=compression)
    np.testing.assert_allclose(np.array(read(tmp_path / "a.tif", content).image), np.array(colour), atol=2)
    picture = read(tmp_path / "a.tif", content, "L")
    assert set(np.array(picture.image).flat) == {111}
    assert picture.notes == ["LAB converted to 8-bit grey"]


ADOBE = {b"r": (0.60974, 0.31111, 0.01947), b"g": (0.20528, 0.62567, 0.06087), b"b": (0.14919, 0.06322, 0.74457)}


def profile(gamma: float, primaries: dict[bytes, tuple[float, float, float]]) -> bytes:
    """A colour profile (ICC.1:2001-04): of RGB with these primaries, of grey without."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {name + b"XYZ": b"XYZ " + bytes(4) + fixed(*values) for name, values in primaries.items()}
    tags |= {name + b"TRC": curve for name in primaries or (b"k",)}
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    space = b"RGB " if primaries else b"GRAY"
    head = b"\2\x10\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return (
        struct.pack(">I", start + len(data)) + bytes(4) + head + bytes(48) + struct.pack(">I", len(tags)) + table + data
    )


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOISE = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", None])
def test_colours_of_another_profile_are_converted_to_srgb(tmp_path: Path, mode: str | None) -> None:
    content = saved(Image.new("RGB", (4, 4), (175, 81, 46)), icc_profile=profile(2.19921875, ADOBE))
    converted = read(tmp_path / "a.png", content, mode)
    np.testing.assert_allclose(np.array(converted.image)[0, 0], (200, 80, 40), atol=2)
    assert converted.notes == ["colour profile converted to sRGB"]


def test_a_profile_and_transparency_are_both_obeyed(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (175, 81, 46, 255))
    image.putpixel((1, 0), (175, 81, 46, 0))
    converted = read(tmp_path / "a.png", saved(image, icc_profile=profile(2.19921875, ADOBE)))
    np.testing.assert_allclose(np.array(converted.image)[0], [(200, 80, 40), (255, 255, 255)], atol=2)


def test_grey_of_another_gamma_is_converted_to_that_of_srgb(tmp_path: Path) -> None:
    content = saved(Image.new("L", (4, 4), 128), icc_profile=profile(1.0, {}))
    converted = read(tmp_path / "a.png", content, None).image
    assert converted.mode == "L"
    np.testing.assert_allclose(np.array(converted), 188, atol=2)  # half the light


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_srgb_itself_changes_nothing(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(NOISE[..., :3]).convert(kind)
    picture = read(tmp_path / "a.png", saved(image, icc_profile=SRGB), None)
    np.testing.assert_array_equal(np.array(picture.image), np.array(image))
    assert picture.notes == []


@pytest.mark.parametrize("unfit", [b"nothing", SRGB[:300], profile(1.0, {})], ids=["words", "cut", "of grey"])
def test_a_profile_that_does_not_fit_is_ignored_with_a_note(tmp_path: Path, unfit: bytes) -> None:
    picture = read(tmp_path / "a.png", saved(Image.fromarray(NOISE[..., :3]), icc_profile=unfit))
    np.testing.assert_array_equal(np.array(picture.image), NOISE[..., :3])
    assert picture.notes == ["colour profile ignored, since it does not fit"]


@pytest.mark.parametrize(("alpha", "noted"), [(0, ["transparency ignored, since nothing would be visible"]), (255, [])])
def test_alpha_that_is_zero_everywhere_means_nothing(tmp_path: Path, alpha: int, noted: list[str]) -> None:
    pixels = NOISE.copy()
    pixels[..., 3] = alpha
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 20, 20, 1, 32, 3, pixels.size, 2835, 2835, 0, 0) + masks + bytes(52)
    header = b"BM" + struct.pack("<IHHI", 14 + 108 + pixels.size, 0, 0, 14 + 108)
    picture = read(tmp_path / "a.bmp", header + info + pixels[::-1, :, [2, 1, 0, 3]].tobytes())
    np.testing.assert_array_equal(np.array(picture.image), pixels[..., :3])
    assert picture.notes == [*noted, "colour with alpha converted to 8-bit colour"]


def png(bits: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of two pixels, one of which has the transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chunks = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, colour, 0, 0, 0)) + chunk(b"tRNS", transparent)
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(png(1, 0, b"\x40", struct.pack(">H", 0)), id="1 bit"),
        pytest.param(png(2, 0, b"\x30", struct.pack(">H", 0)), id="2 bits, black"),
        pytest.param(png(4, 0, b"\x7f", struct.pack(">H", 7)), id="4 bits"),
        pytest.param(png(8, 0, b"\x75\xff", struct.pack(">H", 0x75)), id="8 bits"),
        pytest.param(png(16, 0, struct.pack(">2H", 30_000, 65_535), struct.pack(">H", 30_000)), id="16 bits"),
        pytest.param(png(8, 2, bytes([9, 8, 7, 255, 255, 255]), struct.pack(">3H", 9, 8, 7)), id="8-bit colour"),
        pytest.param(
            png(16, 2, struct.pack(">6H", 9_000, 8_000, 7_000, *[65_535] * 3), struct.pack(">3H", 9_000, 8_000, 7_000)),
            id="16-bit colour",
        ),
    ],
)
def test_a_transparent_colour_is_laid_on_white_in_every_depth(tmp_path: Path, content: bytes) -> None:
    """Of a pixel that is transparent and one that is white nothing but white is left."""
    picture = read(tmp_path / "a.png", content, "L")
    assert np.array(picture.image).tolist() == [[255, 255]]
    assert "transparency laid on white" in picture.notes
