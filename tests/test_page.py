"""The page of `dae-export format=page`, in a real browser: its numbers are Python's, and it works for anybody."""

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dae_lightning import DenoisingAutoencoder, config
from dae_lightning.cli import commands
from dae_lightning.data.idx import read_idx
from dae_lightning.errors import ConfigError, ExportError
from dae_lightning.evaluation.estimators import wiener
from dae_lightning.inference import page as pages
from dae_lightning.inference.export import export_checkpoints
from dae_lightning.model.metrics import psnr
from dae_lightning.model.network import DenseNetwork
from dae_lightning.model.noise import GaussianNoise, GaussianRange
from dae_lightning.model.noise_level import estimate_sigma
from dae_lightning.schema import check

Open = Callable[..., Any]


def make_model(shape: tuple[int, ...], latent: int, sigma: float, network: Any = None) -> DenoisingAutoencoder:
    noise = GaussianNoise(mean=0.125, sigma=sigma)
    return DenoisingAutoencoder(shape, latent, noise, network or {"kind": "dense", "input_scale": 0.5}, seed=latent)


def export(folder: Path, models: list[DenoisingAutoencoder], data: Any = None) -> Path:
    """The page that compares these models, trained on `data`."""
    checkpoints = {}
    for i, model in enumerate(models):
        checkpoints[f"run{i}"] = folder / f"{i}.ckpt"
        content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict(), "data": data}
        torch.save(content, folder / f"{i}.ckpt")
    settings = config.Export(checkpoint=tuple(checkpoints), format="page", output=str(folder / "dae.html"))
    export_checkpoints(settings, checkpoints)
    return folder / "dae.html"


@pytest.fixture(scope="module")
def two_models() -> list[DenoisingAutoencoder]:
    steep = {"kind": "dense", "input_scale": 0.5, "negative_slope": 0.05}
    models = [make_model((12, 12), 6, 2.0), make_model((12, 12), 9, 6.0, steep)]
    with torch.no_grad():
        for model in models:
            for weights in model.network.parameters():
                weights.copy_(weights.add(0.02).half())  # nothing is lost then, and biases are not 0
    return models


@pytest.fixture(scope="module")
def compared(two_models: list[DenoisingAutoencoder], idx_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"kind": "idx", "root": str(idx_root), "seed": 0, "val_size": None}
    return export(tmp_path_factory.mktemp("page"), two_models, data)


@pytest.fixture(scope="module")
def colourful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("colour"), [make_model((3, 40, 36), 5, 1.0)])


@pytest.fixture(scope="module", params=[(14, 12), (3, 10, 12)], ids=["grey", "colour"])
def any_level(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DenoisingAutoencoder]:
    """The page of a model that knows sigma, beside one that does not; and the former."""
    noise = GaussianRange(0.125, 0.02, 2.0, clip=True)
    network = {"kind": "sigma_aware", "input_scale": 0.5, "negative_slope": 0.1}
    model = DenoisingAutoencoder(request.param, 6, noise, network).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.copy_(weights.add(torch.randn(weights.shape, generator=random), alpha=0.3).half())
        model.network.condition.bias[-1] = 0.0  # so that the input has a good share in the output
    folder = tmp_path_factory.mktemp("any_level")
    return export(folder, [model, make_model(request.param, 9, 6.0)]), model


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens a page from disk; at the end, it has asked for nothing else and has met no error."""
    told, requests, contexts = [], [], []

    def opened(path: Path, width: int = 1280, height: int = 900, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.locator("#curve polyline").first.wait_for(state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not told
    assert all(re.fullmatch(r"file:.*/dae\.html", url) for url in requests)
    assert len(requests) == len(contexts)


def normals(seed: int, count: int) -> Tensor:
    """mulberry32, then Box and Muller, as in model.js."""
    state = (seed + 0x6D2B79F5 * np.arange(1, count + 2, dtype=np.uint64)) % 2**32
    mixed = (state ^ (state >> 15)) * (state | 1) % 2**32
    mixed ^= (mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)) % 2**32
    uniform = (mixed ^ (mixed >> 14)) / 2**32
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[:-1:2])), 2 * np.pi * uniform[1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return torch.from_numpy(pairs.flatten()[:count]).float()


def clean_image(page: Any) -> Tensor:
    return torch.tensor(page.evaluate("Array.from(state.clean)"))


def shown_psnr(page: Any, section: str = "denoising") -> list[float]:
    texts = page.locator(f"#{section} output").all_text_contents()
    numbers = [text.replace("\N{MINUS SIGN}", "-").replace("exact", "inf").removesuffix(" dB") for text in texts]
    return [float(number) for number in numbers]


@pytest.mark.parametrize(("sample", "step", "presses"), [(0, 10, 0), (3, 100, 1), (39, 200, 2)])
def test_the_numbers_are_those_of_python(
    compared: Path, two_models: Any, idx_root: Path, open_page: Open, sample: int, step: int, presses: int
) -> None:
    page = open_page(compared)
    page.locator("#samples label").nth(sample).click()
    page.locator("#sigma").fill(str(step))
    for _ in range(presses):
        page.locator("#other").click()
    clean = read_idx(idx_root / "t10k-images-idx3-ubyte.gz")[sample : sample + 1].float() / 255
    torch.testing.assert_close(clean_image(page), clean.flatten())

    sigma = page.evaluate("state.sigma")
    assert sigma == pytest.approx(8 * (step / 200) ** 2)
    noisy = clean + 0.125 + sigma * normals(1 + presses, 144).view(1, 12, 12)
    train = read_idx(idx_root / "train-images-idx3-ubyte.gz")
    with torch.no_grad():
        denoised = [model.eval()(noisy) for model in two_models]
    filtered = wiener(train, GaussianNoise(0.125, sigma))(noisy)
    expected = [noisy, *denoised, filtered, train.float().mean(0, keepdim=True) / 255]
    estimates = page.evaluate("methods.map((method) => Array.from(method.estimate(noisy, state.sigma)))")
    for estimate, right in zip(estimates, expected, strict=True):
        torch.testing.assert_close(torch.tensor(estimate), right.flatten(), atol=1e-3, rtol=0)
    assert shown_psnr(page) == pytest.approx([float(psnr(image, clean)) for image in expected], abs=0.01)

    with torch.no_grad():
        reconstructed = [float(psnr(model(clean), clean)) for model in two_models]
    assert shown_psnr(page, "reconstruction") == pytest.approx(reconstructed, abs=0.01)


def test_a_model_that_knows_sigma_is_told_it_or_estimates_it_as_in_python(any_level: Any, open_page: Open) -> None:
    path, model = any_level
    page = open_page(path)
    page.locator("#samples label").nth(3).click()
    clean = clean_image(page).view(1, *model.input_shape)
    assert page.locator("#clip").is_checked()  # as the first model was trained
    for step, clip, told in itertools.product((0, 10, 60, 200), (True, False), (False, True)):
        page.locator("#sigma").fill(str(step))
        page.locator("#clip").set_checked(clip)
        page.locator("#told" if told else "#estimated").check()
        noisy, sigma = page.evaluate("[Array.from(noisy), state.sigma]")
        noisy = torch.tensor(noisy).view_as(clean)
        with torch.no_grad():
            right = [model.network(image, s if told else None) for image, s in ((noisy, sigma), (clean, 0))]
            code = model.network.encode(noisy, sigma if told else None)
        denoised, shown_code = page.evaluate(
            "['denoise', 'encode'].map((f) => Array.from(models[0][f](noisy, state.sigma)))"
        )
        torch.testing.assert_close(torch.tensor(denoised), right[0].flatten(), atol=1e-3, rtol=0)
        torch.testing.assert_close(torch.tensor(shown_code), code.flatten(), atol=1e-3, rtol=0)
        scores = [shown_psnr(page)[1], shown_psnr(page, "reconstruction")[0]]
        assert scores == pytest.approx([float(psnr(image, clean)) for image in right], abs=0.01)
        level = page.locator("#denoising small").nth(1).text_content()
        said = float(level.removeprefix("told sigma " if told else "estimates sigma "))
        assert said == pytest.approx(sigma if told else float(estimate_sigma(noisy)), abs=0 if told else 0.0051)
    page.locator("#sigma").fill("20")
    shown = []
    for knowledge in ("#estimated", "#told"):
        page.locator(knowledge).check()
        shown.append(page.locator("#denoising output").nth(1).text_content())
        page.locator(f"#curve[aria-label*='Denoised by A: {shown[-1]};']").wait_for()  # it follows after a pause
    assert shown[0] != shown[1]


def test_what_a_model_knows_is_chosen_by_keyboard_where_one_can_know(
    any_level: Any, compared: Path, open_page: Open
) -> None:
    page = open_page(any_level[0])
    knowledge = page.get_by_role("radiogroup", name="Sigma is")
    assert knowledge.get_by_role("radio", name="estimated").is_checked()
    page.locator("#estimated").focus()
    page.keyboard.press("ArrowRight")
    assert knowledge.get_by_role("radio", name="told").is_checked()
    assert "told sigma 2" in page.locator("#denoising canvas").nth(1).get_attribute("aria-label")
    assert page.locator("#denoising small").all_text_contents() == ["", "told sigma 2", "", "", ""]
    assert page.get_by_text("stays good at every noise level it was trained on").is_visible()
    models = page.locator("#models li").all_text_contents()
    assert models[0] == "A: trained on sigma 0.02 to 2, clipped to bytes, code of 6 numbers"

    page = open_page(compared)
    assert not page.locator("#knowledge").is_visible()
    assert not page.locator("#any-level").is_visible()


def test_the_curve_says_what_the_figures_say_and_noise_can_be_clipped(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    page.locator("#sigma").fill("100")
    at_two = page.evaluate("curves.map((curve) => valueAt(curve, 2))")
    assert shown_psnr(page) == pytest.approx(at_two, abs=0.01)
    page.locator("#clip").check()
    noisy = page.evaluate("Array.from(noisy)")
    assert (min(noisy), max(noisy)) == (0, 1)
    assert np.array(noisy) * 255 == pytest.approx(np.round(np.array(noisy) * 255), abs=1e-4)


def test_without_noise_the_input_is_exact(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    page.evaluate("data.noise_mean = 0")
    page.locator("#sigma").fill("0")
    assert page.locator("#denoising output").first.text_content() == "exact"
    assert "worse than its input" in page.locator("#verdict").text_content()


def test_one_draws_by_pointer_and_by_keys(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    page.get_by_role("button", name="Clear").click()
    assert clean_image(page).max() == 0
    assert page.locator("#samples input:checked").count() == 0
    box = page.locator("#clean").bounding_box()
    centres = [(box["x"] + box["width"] * (x + 0.5) / 12, box["y"] + box["height"] * 2.5 / 12) for x in (1, 10)]
    page.mouse.move(*centres[0])
    page.mouse.down()
    page.mouse.move(*centres[1])
    page.mouse.up()
    drawn = clean_image(page).view(12, 12)
    assert torch.equal(drawn[2, 1:11], torch.ones(10))
    assert drawn[5:].max() == 0

    page.locator("#clean").focus()
    page.keyboard.down(" ")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.up(" ")
    page.keyboard.press("ArrowLeft")
    drawn = clean_image(page).view(12, 12)
    assert drawn[7:10, 5:7].min() > 0.5
    assert drawn[9:, :3].max() == 0
    page.get_by_role("button", name="Invert").click()
    torch.testing.assert_close(clean_image(page).view(12, 12), 1 - drawn)


def png(width: int, height: int) -> bytes:
    """Left half black, right half white."""
    file = io.BytesIO()
    image = Image.new("RGB", (width, height), "black")
    image.paste("white", (width // 2, 0, width, height))
    image.save(file, "PNG")
    return file.getvalue()


GIVE = """([event, bytes, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
    const options = { bubbles: true, cancelable: true };
    const given = event === "drop" ? new DragEvent("drop", { dataTransfer: transfer, ...options })
                                   : new ClipboardEvent("paste", { clipboardData: transfer, ...options });
    document.body.dispatchEvent(given);
}"""


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(compared: Path, open_page: Open, event: str) -> None:
    page = open_page(compared)
    page.evaluate(GIVE, [event, list(png(90, 60)), "halves.png"])  # the middle is taken
    page.locator("#samples:not(:has(input:checked))").wait_for()
    image = clean_image(page).view(12, 12)
    assert image[:, :5].max() < 0.05
    assert image[:, 7:].min() > 0.95


def test_a_picture_is_opened_even_a_large_one_and_in_colour(colourful: Path, open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(3600, 4000))
    page = open_page(colourful)
    page.locator("#file").set_input_files(tmp_path / "large.png")
    page.locator("#samples:not(:has(input:checked))").wait_for()
    image = clean_image(page).view(3, 40, 36)
    assert image[:, :, :17].max() < 0.05
    assert image[:, :, 19:].min() > 0.95
    page.locator("#colour").fill("#ff0000")
    page.locator("#clean").click(position={"x": 105, "y": 160})
    assert clean_image(page).view(3, 40, 36)[:, 20, 13] == pytest.approx([1, 0, 0])


HUGE = png(4, 4).replace(b"\0\0\0\4\0\0\0\4", b"\0\1\0\0\0\1\0\0", 1)  # its header declares 65,536 x 65,536 pixels


@pytest.mark.parametrize("content", [b"no picture", png(90, 60)[:60], HUGE], ids=["text", "half", "huge"])
def test_what_is_no_picture_is_said_and_changes_nothing(compared: Path, open_page: Open, content: bytes) -> None:
    page = open_page(compared)
    before = clean_image(page)
    page.evaluate(GIVE, ["drop", list(content), "odd.png"])
    page.wait_for_selector("#message:not(:empty)")
    assert page.locator("#message").text_content() == "odd.png: not a picture that this browser can read"
    assert torch.equal(clean_image(page), before)
    page.locator("#samples label").nth(1).click()
    assert page.locator("#message").text_content() == ""


def test_a_file_of_many_megabytes_is_not_read(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    page.evaluate("take([new File([new Uint8Array(2 ** 25 + 1)], 'film.png', { type: 'image/png' })])")
    assert page.locator("#message").text_content() == "film.png: larger than 32 MB; give a smaller picture"


def test_it_is_used_by_keyboard_alone(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("['id', 'name', 'tagName'].map((key) => document.activeElement[key]).find(Boolean)")
        )
    order = ["clean", "clear", "invert", "file", "sample", "sigma", "other", "clip", "SUMMARY", "model", "bars"]
    assert [name for name in reached if name in order][: len(order)] == order
    page.locator("#samples input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#samples input").nth(1).is_checked()
    page.locator("#sigma").focus()
    page.keyboard.press("Home")
    assert page.locator("#sigma-shown").text_content() == "sigma 0"
    page.locator("#bars").focus()
    page.keyboard.press("End")
    assert page.locator("#unit-shown").text_content().startswith("Unit 6 of 6: ")
    page.locator("#choice input").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator("#bars").focus()
    page.keyboard.press("End")
    assert page.locator("#bars").get_attribute("aria-valuetext").startswith("Unit 9 of 9: ")


def test_everything_has_a_name_for_those_who_do_not_see_it(compared: Path, open_page: Open) -> None:
    page = open_page(compared)
    for role in ("button", "slider", "radio", "checkbox", "img", "application"):
        elements = page.get_by_role(role).all()
        assert elements, role
        for element in elements:
            assert re.match(rf"- '?{role} .+", element.aria_snapshot()), role


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(compared: Path, open_page: Open, scheme: str) -> None:
    page = open_page(compared, 375, 800, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    paper, ink = page.evaluate(
        "[document.documentElement, document.body].map((e) => getComputedStyle(e))"
        ".map((style, i) => i ? style.color : style.backgroundColor)"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in (paper, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")


def test_letters_stand_in_for_images_that_cannot_be_read(
    tmp_path: Path, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export(tmp_path, [make_model((64, 64), 4, 1.0)], {"kind": "idx", "root": "nowhere"})
    assert capsys.readouterr().out.startswith(f"note: {pages.STAND_IN}\n{path}: ")
    page = open_page(path)
    assert page.locator("#note").text_content() == pages.STAND_IN
    assert page.locator("#samples input").count() == 40
    noisy, _, wiener, mean = shown_psnr(page)
    assert wiener > max(noisy, mean)


def test_two_models_of_the_notebooks_size_fit_four_megabytes_and_nothing_may_be_fetched(tmp_path: Path) -> None:
    path = export(tmp_path, [make_model((28, 28), 256, 2.0), make_model((28, 28), 256, 6.0)])
    assert path.stat().st_size <= 4_000_000
    text = path.read_text()
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    assert f'content="{policy}"' in text
    assert text.count("</script>") == 2


class Foreign(DenseNetwork):
    kind = "foreign"


def test_a_model_that_fits_no_page_is_refused(tmp_path: Path) -> None:
    small = make_model((8, 8), 3, 1.0)
    for shape in ((24,), (65, 20), (2, 8, 8)):
        with pytest.raises(ExportError, match=r"^checkpoint=run0: takes images of \(.*; a page shows grey or RGB ones"):
            export(tmp_path, [make_model(shape, 3, 1.0)])
    with pytest.raises(ExportError, match=r"^checkpoint=run1: takes images of \(8, 9\), but the first takes \(8, 8\)$"):
        export(tmp_path, [small, make_model((8, 9), 3, 1.0)])
    foreign = make_model((8, 8), 3, 1.0, Foreign((8, 8), 3))
    with pytest.raises(
        ExportError, match=r"^checkpoint=mine: a page cannot compute network=foreign; known: dense, sigma_aware$"
    ):
        pages.check_models({"mine": foreign})
    with torch.no_grad():
        small.network.encoder.weight.fill_(1e5)
    with pytest.raises(
        ExportError, match=r"^format=page: weights in half precision change a pixel by .*; use format=onnx"
    ):
        export(tmp_path, [small])
    assert not (tmp_path / "dae.html").exists()


def test_the_command_compares_a_list_of_checkpoints(
    tmp_path: Path, two_models: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path, two_models).unlink()
    places = f"{tmp_path}/0.ckpt,{tmp_path}/1.ckpt"
    monkeypatch.setattr("sys.argv", ["dae-export", f"checkpoint=[{places}]", "format=page"])
    commands.export()
    assert f"{tmp_path}/0.html: 0.1 MB; " in capsys.readouterr().out
    assert (tmp_path / "0.html").is_file()


def test_only_a_page_takes_several_checkpoints() -> None:
    several = {"checkpoint": ["a", "b"], "format": "onnx", "output": None}
    with pytest.raises(ConfigError, match=r"^format=onnx: takes one checkpoint; format=page compares several$"):
        check(config.Export, several, "")
    assert check(config.Export, several | {"format": "page"}, "").checkpoint == ("a", "b")
