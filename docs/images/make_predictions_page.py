"""Draw ``predictions-page.jpg`` for the README: the page of an evaluation of a synthetic crowd, as Chromium shows it.

    python docs/images/make_predictions_page.py WORK

WORK is the folder of ``make_overview.py``, or a new one for the same crowd and the same network: what is there already
is not made again. Needs selenium and Chromium (Debian: ``chromium``, ``chromium-driver``). Some minutes on two cores.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from pathlib import Path

from make_overview import IMAGES, PEOPLE, SEED, SIZE, train  # first: it sets what torch reads when it is imported
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains

import crowdseg
from crowdseg.data.synthetic import write_synthetic
from crowdseg.report import evaluation
from crowdseg.report.predictions_page import PAGE, PredictionsPage

WINDOW = (900, 800)  # px of each of the two views
SEEN = (640, 330)  # px from the left and the top of the photograph: where the mouse is
QUALITY = 80


def main(work: Path) -> None:
    os.chdir(work.parent)  # the page names its sources as they were given
    work = Path(work.name)
    write_synthetic(work / "data", IMAGES, PEOPLE, SIZE, SEED)
    crowdseg.prep_masks(work / "data", work / "masks")
    train(work)
    page = PredictionsPage()
    result = crowdseg.evaluate(work / "count", work / "data", look=page.look)
    evaluation.write(result, work / "eval", page)
    views = photograph(work / "eval" / PAGE)
    picture = Image.new("RGB", (sum(view.width for view in views) + 12, views[0].height), "white")
    for number, view in enumerate(views):
        picture.paste(view, (number * (view.width + 12), 0))
    file = Path(__file__).with_name("predictions-page.jpg")
    picture.save(file, quality=QUALITY, optimize=True)
    print(f"{file}, {file.stat().st_size / 1e3:.0f} kB")


def photograph(page: Path) -> list[Image.Image]:
    """The gallery, and its first image large, with the mouse over a person."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("This needs Chromium: apt-get install chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    width, height = WINDOW
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.resolve().as_uri())
    views = [taken(browser)]
    browser.find_element("css selector", ".image").click()
    time.sleep(1)  # until it is decoded
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(*SEEN)
    actions.perform()
    views.append(taken(browser))
    browser.quit()
    return views


def taken(browser: webdriver.Chrome) -> Image.Image:
    time.sleep(0.5)
    return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
