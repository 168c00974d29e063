"""The page of masks: its drawings in Python, its behaviour by clicking through it in headless Chromium."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crowdseg import files
from crowdseg.data import load_dataset
from crowdseg.masks import MaskStore, Record, review_masks
from crowdseg.report.masks_page import write_masks_page

SHOWN = 30


@pytest.fixture(scope="module")
def folder(crowd: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic crowd's masks with records as SAM leaves them: mostly its own, some fallbacks."""
    folder = tmp_path_factory.mktemp("sam")
    old, generator = MaskStore.open(crowd.masks), np.random.default_rng(3)
    store = MaskStore.create(folder, {**old.manifest, "segmenter": "sam"})
    for sample in load_dataset(crowd.data).samples:
        records = [_as_sam(record, generator) for record in old.records(sample)]
        store.write(sample, old.labels(sample), records)
    return folder


def _as_sam(record: Record, generator: np.random.Generator) -> Record:
    if record.index % 5 == 1:
        return record
    if record.index % 5 == 2:
        return replace(record, source="disc")
    return replace(
        record,
        source="sam",
        score=round(float(generator.uniform(0.4, 1)), 3),
        leakage=round(float(generator.uniform(0, 0.6)), 3),
    )


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_masks_page(folder / "report.html", review_masks(folder, most=SHOWN)).path


def one_mask(folder: Path, size: tuple[int, int], box: tuple[int, int, int, int], name: str = "0") -> str:
    """The page of one image, black but for the person's mask: rows top to bottom, columns left to right."""
    (folder / "data/images").mkdir(parents=True)
    top, bottom, left, right = box
    labels = np.zeros(size, np.int32)
    labels[top:bottom, left:right] = 1
    Image.fromarray((labels[..., None] * [255, 255, 255]).astype(np.uint8)).save(folder / f"data/images/{name}.png")
    x, y = (left + right) // 2, (top + bottom) // 2
    (folder / "data/points.csv").write_text(f"image,x,y\nimages/{name}.png,{x},{y}\n")
    settings = {"segmenter": "sam", "settings": {}, "dataset": {"root": str(folder / "data")}}
    store = MaskStore.create(folder / "masks", settings)
    person = Record(0, (x, y), "disc", None, 0.0, int(labels.sum()), float(max(size)))
    store.write(load_dataset(folder / "data").samples[0], labels, [person])
    return write_masks_page(folder / "report.html", review_masks(folder / "masks")).path.read_text()


@pytest.mark.parametrize(
    ("size", "box"),
    [((90, 120), (30, 60, 40, 70)), ((90, 120), (0, 30, 100, 120)), ((1500, 2000), (300, 1100, 400, 900))],
)
def test_the_outline_lies_around_the_mask_in_the_picture(tmp_path, size, box):
    text = one_mask(tmp_path, size, box)
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', text).groups())
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])))
    assert max(picture.size) <= 256
    numbers = np.array(
        re.findall(r"[\d.]+", re.search(r'class="mask" fill-rule="evenodd" d="([^"]+)"', text)[1]), float
    )
    corners = np.stack([numbers[0::2].min(), numbers[0::2].max(), numbers[1::2].min(), numbers[1::2].max()])
    bright = np.asarray(picture.convert("L").resize((width, height), Image.Resampling.BILINEAR)) > 127
    rows, columns = np.nonzero(bright)
    drawn = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
    np.testing.assert_allclose(corners, drawn, atol=1 + max(width, height) / 256)


def test_names_are_text_not_markup(tmp_path):
    text = one_mask(tmp_path, (40, 40), (10, 20, 10, 20), '<img src=x onerror="alert(1)">')
    assert "<img" not in text and "&lt;img" in text


def test_nothing_comes_from_a_network(page):
    text = page.read_text()
    assert not re.search(r"https?://|//\w+\.|@import|url\(", text)
    assert set(re.findall(r'(?:href|src)="([^,"]*)', text)) == {"data:image/jpeg;base64"}


def test_the_page_says_what_it_leaves_out(folder, page):
    review = review_masks(folder, most=SHOWN)
    text = page.read_text()
    assert text.count('class="person"') == SHOWN
    assert f"{review.people - SHOWN:,} are left out" in text
    whole = write_masks_page(folder / "whole.html", review_masks(folder, most=10_000))
    people = sum(sample.count for sample in review.dataset.samples)
    assert whole.shown >= 0.9 * people and whole.shown == whole.path.read_text().count('class="person"')


def test_an_unreadable_image_is_named_and_the_others_are_shown(crowd, folder, tmp_path):
    shutil.copytree(crowd.data, tmp_path / "data")
    review = review_masks(folder, tmp_path / "data", most=SHOWN)
    image = review.worst[0].sample.image
    image.write_bytes(image.read_bytes()[:300])
    result = write_masks_page(tmp_path / "report.html", review)
    lost = sum(person.sample.image == image for person in review.worst)
    assert [path for path, _ in result.failures] == [image] and result.shown == SHOWN - lost > 0
    assert "1 could not be read" in result.path.read_text() and str(image) in result.path.read_text()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (4e-6, "under 0.1%"),
        (0.001, "0.1%"),
        (0.0044, "0.4%"),
        (0.0994, "9.9%"),
        (0.0996, "10%"),
        (1.6, "160%"),
    ],
)
def test_small_shares_are_told_apart(tmp_path, share, text):
    one_mask(tmp_path, (40, 40), (10, 20, 10, 20))
    review = review_masks(tmp_path / "masks")
    doubts = {"fallback": 0.0, "score": 0.0, "leakage": 0.0, "size": 1.0}
    page = write_masks_page(
        tmp_path / "report.html", replace(review, worst=[replace(review.worst[0], share=share, doubts=doubts)])
    )
    assert f"<b>fills {text}</b>" in page.path.read_text()


def test_a_folder_without_doubt(tmp_path):
    one_mask(tmp_path, (40, 40), (10, 20, 10, 20))
    record = next((tmp_path / "masks/records").rglob("*.json"))
    content = files.read_json(record)
    content["people"][0]["source"] = "sam"
    files.write_json(record, content)
    result = write_masks_page(tmp_path / "report.html", review_masks(tmp_path / "masks"))
    assert result.shown == 0 and "Nobody to doubt" in result.path.read_text()


# ---------------------------------------------------------------------------------------------------- in a browser


def people_of(visitor: Any) -> list[dict[str, str]]:
    """The data of those shown, in the order shown."""
    return visitor.ask("[...document.querySelectorAll('#people .person')].map(p => ({...p.dataset}))")


def test_the_worst_are_first_and_every_picture_is_there(visit):
    visitor = visit()
    people = people_of(visitor)
    assert len(people) == SHOWN and [int(person["rank"]) for person in people] == list(range(SHOWN))
    assert people[0]["reason"] == "fallback" and people[-1]["reason"] != "fallback"
    assert visitor.one("#shown").text == f"{SHOWN} people"
    assert (
        visitor.ask(
            "Promise.all([...document.querySelectorAll('.person image')].map(i => { const p = new Image();"
            " p.src = i.getAttribute('href'); return p.decode().then(() => p.naturalWidth > 5); }))"
        )
        == [True] * SHOWN
    )
    assert visitor.ask("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


def test_histograms_have_a_bar_for_everyone(visit, folder):
    visitor = visit()
    names = [figure.text.split(" median")[0].split("\n")[0] for figure in visitor.all(".histograms b")]
    assert names == ["predicted IoU", "leakage", "share of the circle", "area (log scale)"]
    review = review_masks(folder)
    titles = visitor.ask("[...document.querySelectorAll('.histograms figure:last-of-type [title]')].map(b => b.title)")
    assert sum(int(title.split(": ")[1].split()[0].replace(",", "")) for title in titles) == review.people
    heights = visitor.ask(
        "[...document.querySelectorAll('.histograms figure:last-of-type i')].map(b => b.offsetHeight)"
    )
    assert max(heights) > 60 and heights.count(0) < len(heights)


def test_filters_by_source_reason_and_image(visit):
    visitor = visit()
    everyone = people_of(visitor)
    for box in visitor.all("input[name=source]"):
        if box.get_attribute("value") != "disc":
            box.click()
    discs = people_of(visitor)
    assert discs == [person for person in everyone if person["source"] == "disc"] and discs
    assert visitor.one("#shown").text == f"{len(discs)} of {SHOWN} people"
    for box in visitor.all("input[name=source]"):
        if not box.is_selected():
            box.click()
    visitor.choose("reason", "leakage")
    assert people_of(visitor) == [person for person in everyone if person["reason"] == "leakage"]
    visitor.choose("reason", "any")
    name = everyone[4]["image"].split("/")[-1]
    visitor.one("#image").send_keys(name.lower())
    assert people_of(visitor) == [person for person in everyone if name in person["image"]]
    visitor.one("#image").send_keys(" of nowhere")
    assert people_of(visitor) == [] and visitor.one("#shown").text == f"0 of {SHOWN} people"


def test_orders(visit):
    visitor = visit()
    visitor.choose("order", "lowest score")
    scores = [float(person["score"] or 2) for person in people_of(visitor)]
    assert scores == sorted(scores) and scores[0] < 1
    visitor.choose("order", "highest leakage")
    leakage = [float(person["leakage"]) for person in people_of(visitor)]
    assert leakage == sorted(leakage, reverse=True)
    visitor.choose("order", "smallest in the circle")
    share = [float(person["share"]) for person in people_of(visitor)]
    assert share == sorted(share)
    visitor.choose("order", "by image")
    places = [(int(re.findall(r"\d+", person["image"])[-1]), int(person["index"])) for person in people_of(visitor)]
    groups = [[place for place, person in zip(places, people_of(visitor), strict=True) if split in person["image"]]
              for split in ("test_data", "train_data")]  # fmt: skip
    assert places == [*sorted(groups[0]), *sorted(groups[1])]


def test_of_many_people_some_are_shown_and_more_on_demand(visit, folder, tmp_path):
    from selenium.webdriver import Keys

    review = review_masks(folder, most=30)
    path = write_masks_page(tmp_path / "many.html", replace(review, worst=review.worst * 20)).path
    visitor = visit(path=path)
    assert len(people_of(visitor)) == 240 and visitor.one("#shown").text == "600 people"
    visitor.ask("get('more').scrollIntoView()")  # people get their heights when they come into sight
    visitor.one("#more").click()
    assert [int(person["rank"]) for person in people_of(visitor)] == list(range(480))
    visitor.ask("document.querySelector('#people li:last-child .person').focus()")
    visitor.keys(Keys.ARROW_RIGHT)
    assert visitor.ask("document.activeElement.dataset.rank") == "480" and len(people_of(visitor)) == 600
    assert not visitor.one("#more").is_displayed()
    visitor.one("#image").send_keys("img")
    assert len(people_of(visitor)) == 240  # from the top again


def test_turning_pages_beyond_those_shown(visit, folder, tmp_path):
    from selenium.webdriver import Keys

    review = review_masks(folder, most=30)
    visitor = visit(path=write_masks_page(tmp_path / "many.html", replace(review, worst=review.worst * 10)).path)
    visitor.ask("document.querySelectorAll('.person')[238].click()")
    visitor.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "241 of 300" in visitor.one("#figures").text
    visitor.keys(Keys.ESCAPE)
    assert visitor.ask("document.activeElement.dataset.rank") == "240"


def test_hovering_zooms_beside_the_person_within_the_window(visit):
    visitor = visit()
    for number in (0, 5, SHOWN - 1):
        person = visitor.all(".person")[number]
        visitor.hover(person)
        small, large = person.rect, visitor.ask("document.getElementById('zoom').getBoundingClientRect().toJSON()")
        box = visitor.ask(f"document.querySelectorAll('.person')[{number}].getBoundingClientRect().toJSON()")
        assert large["width"] > 2 * small["width"]
        assert large["left"] >= 0 and large["top"] >= 0 and large["right"] <= 1200 and large["bottom"] <= 800
        assert large["left"] >= box["right"] or large["right"] <= box["left"]  # the person stays in sight
    visitor.hover(visitor.one("h1"))
    assert not visitor.one("#zoom").is_displayed()


def test_a_click_shows_one_large_and_turns_pages(visit):
    visitor = visit()
    people = people_of(visitor)
    visitor.all(".person")[0].click()
    assert visitor.one("dialog").is_displayed() and people[0]["image"] in visitor.one("#figures").text
    assert not visitor.one("#previous").is_enabled()
    visitor.one("#next").click()
    assert f"2 of {SHOWN}" in visitor.one("#figures").text and people[1]["image"] in visitor.one("#figures").text
    visitor.one("#close").click()
    assert not visitor.one("dialog").is_displayed()


def test_everything_by_keyboard(visit):
    from selenium.webdriver import Keys

    visitor = visit()
    visitor.ask("document.querySelector('.person').focus()")
    visitor.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert visitor.ask("document.activeElement.dataset.rank") == "2" and visitor.one("#zoom").is_displayed()
    visitor.keys(Keys.ARROW_DOWN)
    columns = int(visitor.ask("document.activeElement.dataset.rank")) - 2
    assert visitor.ask("document.activeElement.getBoundingClientRect().left") == visitor.all(".person")[2].rect["x"]
    visitor.keys(Keys.ENTER)
    assert visitor.one("dialog").is_displayed()
    visitor.keys(Keys.ARROW_RIGHT)
    assert f"{columns + 4} of {SHOWN}" in visitor.one("#figures").text
    visitor.keys(Keys.ESCAPE)
    assert not visitor.one("dialog").is_displayed()
    assert visitor.ask("document.activeElement.dataset.rank") == str(columns + 3)  # back where the pages were turned to
    visitor.keys("o")
    assert not visitor.one(".person .mask").is_displayed() and not visitor.one("#outlines").is_selected()
    visitor.keys("/", "no such image o")
    assert people_of(visitor) == [] and not visitor.one("#outlines").is_selected()


@pytest.mark.parametrize("dark", [False, True])
def test_legible_in_the_light_and_in_the_dark(visit, dark):
    visitor = visit(dark=dark)
    ground = visitor.one("body").value_of_css_property("background-color")
    assert visitor.contrast(ground, "rgb(0, 0, 0)" if dark else "rgb(255, 255, 255)") < 1.3
    for selector in ("h1", ".quiet", "nav label", ".ends", "#shown"):
        assert visitor.contrast(ground, visitor.one(selector).value_of_css_property("color")) >= 4.5, selector
    card = visitor.one(".person").value_of_css_property("background-color")
    for selector in (".person b", ".person span"):
        assert visitor.contrast(card, visitor.one(selector).value_of_css_property("color")) >= 4.5, selector


def test_on_a_phone(visit):
    visitor = visit(width=360, height=740, phone=True)
    assert visitor.ask("document.documentElement.scrollWidth") <= 360
    tops = visitor.ask("[...document.querySelectorAll('.person')].map(p => p.getBoundingClientRect().top)")
    assert tops.count(tops[0]) in (2, 3)
    visitor.all(".person")[1].click()
    box = visitor.ask("document.querySelector('dialog').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= 360 and box["bottom"] <= 740
    for button in visitor.all(".turn button"):
        assert button.rect["height"] >= 40  # for a thumb


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(visit, folder, tmp_path, dark):
    name = "day_of_the_long_names" * 9
    one_mask(tmp_path / name, (90, 120), (30, 60, 40, 70), name)
    review = review_masks(tmp_path / name / "masks")
    lost = [(Path("a.jpg"), f"/home/{name}/{name}.jpg is not a readable image.")]
    path = write_masks_page(tmp_path / "report.html", replace(review, failures=lost)).path
    visitor = visit(path, width=360, height=740, phone=True, dark=dark)

    def fits() -> bool:
        wide = visitor.ask("[document.documentElement, dialog].map(e => e.scrollWidth - e.clientWidth)")
        return wide == [0, 0] and visitor.ask("innerWidth") == 360

    assert fits()
    visitor.ask("(document.querySelector('#failures').open = true, get('more').hidden = false)")
    assert fits()
    visitor.ask("document.querySelector('.person').click()")
    assert visitor.one("dialog").is_displayed() and fits()
