"""Draw ``masks-page.png`` for docs/masks.md: the page of masks of a synthetic crowd, as Chromium shows it.

    python docs/images/make_masks_page.py WORK

WORK is a folder for the synthetic crowd and its masks; what is there already is not made again. Needs Chromium (Debian:
``chromium``). A minute on two cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as the command line does

from PIL import Image

import crowdseg
from crowdseg.data.synthetic import write_synthetic
from crowdseg.masks import review_masks
from crowdseg.report.masks_page import write_masks_page

IMAGES, PEOPLE, SIZE, SEED = 12, (40, 140), (384, 512), 7
WINDOW = (1000, 790)  # px
COLOURS = 256  # of the picture's palette: enough for a page, and a third of the bytes


def main(work: Path) -> None:
    write_synthetic(work / "crowd", IMAGES, PEOPLE, SIZE, SEED)
    crowdseg.prep_masks(work / "crowd", work / "masks")
    page = write_masks_page(work / "masks" / "report.html", review_masks(work / "masks", most=240)).path
    picture = Path(__file__).with_name("masks-page.png")
    photograph(page, picture)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    print(f"{picture}, {picture.stat().st_size / 1e3:.0f} kB")


def photograph(page: Path, picture: Path) -> None:
    """The upper part of the page as PNG."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("This needs Chromium: apt-get install chromium")
    window = ",".join(map(str, WINDOW))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={window}"]
    command = [chromium, *options, f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
