"""The pages that Sphinx builds from docs/, opened from disk: complete, with a search, and without any network."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
for module in ("sphinx", "furo", "myst_nb", "jupytext", "latex2mathml"):
    pytest.importorskip(module)

ROOT = Path(__file__).parent.parent
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
# what a browser fetches for a page by itself: not a link that one may follow
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\s(?:src|srcset)=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b[^>]*\shref=["']?(?:https?:)?//[^>]*>|@import[^;]*//[^;]*;|url\(["']?(?:https?:)?//[^)]*\)""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built as the gate does; the lesson is executed there, and by its own test."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-D", "nb_execution_mode=off"]
    built = subprocess.run([*build, "docs", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_fetches_anything_from_the_network(site: Path) -> None:
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert [found[0] for found in FETCHED.finditer(file.read_text())] == [], file.name


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page_opens_from_disk_and_fits_the_screen(site: Path, browser: Any, screen: dict[str, int]) -> None:
    page = browser.new_page(viewport=screen)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else troubles.append(request.url)
    )
    for file in sorted(site.glob("*.html")):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), file.name
        assert page.title(), file.name
    assert troubles == []
    page.close()


@pytest.mark.parametrize(
    ("words", "place", "meaning"),
    [
        ("checkpoint.every_seconds", "configuration.html#checkpoint-every-seconds", "seconds from one last.ckpt"),
        ("noise.sigma", "configuration.html#noise-sigma", "standard deviation of the noise"),
        ("estimate_sigma", "api.html#dae_lightning.model.noise_level.estimate_sigma", ""),
        ("images_per_second", "files.html", "in that time"),
    ],
)
def test_the_search_finds_what_a_name_means(site: Path, browser: Any, words: str, place: str, meaning: str) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto((site / "index.html").as_uri())
    page.get_by_role("searchbox").or_(page.get_by_placeholder("Search")).first.fill(words)
    page.keyboard.press("Enter")
    page.locator("#search-results a").first.click()
    page.wait_for_url(f"**/{place}*")
    assert meaning in page.locator("article").inner_text()
    page.close()


def test_the_embedded_page_answers_to_its_slider(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto((site / "page.html").as_uri())
    frame = page.frame_locator("iframe.try")
    before = frame.locator("main").inner_text()
    frame.locator("#sigma").fill("200")
    assert frame.locator("main").inner_text() != before
    page.close()


def test_mathematics_is_shown_without_a_script(site: Path, browser: Any) -> None:
    page = browser.new_context(java_script_enabled=False, viewport=PHONE).new_page()
    page.goto((site / "any_sigma.html").as_uri())
    formula = page.locator("math[display=block]").first
    assert formula.bounding_box()["height"] > 50
    assert "$" not in page.locator("article").inner_text()
    page.context.close()
