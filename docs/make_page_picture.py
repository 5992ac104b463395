"""Make docs/page.webp, the README's first picture: the slider of a real page (dae-export format=page), moved.

python docs/make_page_picture.py PAGE.html docs/page.webp       # extra [page], and Chromium
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SAMPLE = 4
STEPS = [*range(0, 201, 8), *range(192, 0, -8)]  # of the slider: to the strongest noise, and back
HOLD = {0: 1200, 104: 900, 200: 1200}  # milliseconds on some of them
SIZE = {"width": 1280, "height": 374}
WIDTH = 896  # of the picture, in pixels


def main(page_file: Path, picture: Path) -> None:
    frames = []
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light", device_scale_factor=WIDTH / SIZE["width"])
        page.goto(page_file.absolute().as_uri())
        page.locator("#samples label").nth(SAMPLE).click()
        page.locator("main").evaluate("main => scrollTo(0, main.offsetTop - 8)")
        for step in STEPS:
            page.locator("#sigma").fill(str(step))
            frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    durations = [HOLD.get(step, 100) for step in STEPS]
    more = {"append_images": frames[1:], "duration": durations, "loop": 0, "quality": 55, "method": 6}
    frames[0].save(picture, "WEBP", save_all=True, **more)
    print(f"{picture}: {picture.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
