"""The page of predictions: its packing in Python, its behaviour by clicking through it in headless Chromium."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crowdseg import files, rle
from crowdseg.engine.findings import findings
from crowdseg.engine.image_files import find_images
from crowdseg.engine.roles import Role
from crowdseg.engine.scoring import Scorer
from crowdseg.report.page_people import PackedPeople, draw_small, pack_people
from crowdseg.report.page_pictures import TILE, page_picture
from crowdseg.report.prediction import Outputs, PredictionWriter
from crowdseg.report.predictions_page import PAGE, Figure, PredictionsPage, _histogram, page_beside
from crowdseg.structures import LabelMap, Prediction, Sample

SIZE = (600, 800)
COUNTS = (5, 12, 0, 9)  # people of the images
MISSED, FALSE = 3, 2  # in every image that has people


def crowd_of(number: int) -> tuple[np.ndarray, LabelMap, np.ndarray]:
    """Photograph, label map and points (x, y): ``number`` bright squares of 40 px in a row each of ten, on dark."""
    labels = np.zeros(SIZE, np.int32)
    points = np.array([(60 + 70 * (n % 10), 100 + 150 * (n // 10)) for n in range(number)], float).reshape(-1, 2)
    for label, (x, y) in enumerate(points.astype(int), 1):
        labels[y - 20 : y + 20, x - 20 : x + 20] = label
    return np.where(labels[..., None] > 0, 200, 30).repeat(3, -1).astype(np.uint8), labels, points


def predicted(number: int, name: str) -> tuple[Prediction, np.ndarray]:
    pixels, labels, points = crowd_of(number)
    scores = np.linspace(0.99, 0.51, number).astype(np.float32)
    return Prediction(SIZE, points, scores, labels, key=name), pixels


def scored(number: int, name: str) -> tuple[Any, np.ndarray]:
    """The first MISSED people are missed, and FALSE ones are found where nobody is."""
    whole, pixels = predicted(number, name)
    false = np.array([(30 + 300 * n, 560) for n in range(FALSE if number else 0)], float).reshape(-1, 2)
    people = np.concatenate([whole.points[MISSED:], false])
    labels = np.zeros(SIZE, np.int32)
    for label, (x, y) in enumerate(people.astype(int), 1):
        labels[max(0, y - 20) : y + 20, max(0, x - 20) : x + 20] = label
    prediction = Prediction(SIZE, people, np.full(len(people), 0.8, np.float32), labels, key=name)
    sample = Sample(name, Path(name), SIZE, whole.points)
    scorer = Scorer(lambda sample: None)
    scorer.add(sample, prediction)
    return findings(sample, prediction, scorer.images[0], boxes=False, images=len(COUNTS)), pixels


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "page.html"
    collected = PredictionsPage(len(COUNTS))
    for number, count in enumerate(COUNTS):
        collected.add(*predicted(count, f"day/IMG_{number}.jpg"))
    collected.write(path, "Predictions of day", about="by count/first")
    return path


@pytest.fixture(scope="module")
def eval_page(page: Path) -> Path:
    path = page.with_name("eval.html")
    collected = PredictionsPage()
    for number, count in enumerate(COUNTS):
        collected.add_findings(*scored(count, f"day/IMG_{number}"))
    figures = [
        Figure("MAE", "1.0", "0.5 to 2.0", "people per image", True),
        Figure("bias", "+0.5", "", "in all", False),
    ]
    density = [["0", "1", "0", "-", "0", "0"], ["1-100", "3", "1", "1", "50 %", "-1"]]
    collected.write(path, "first on crowd", figures=figures, density=density, notes=["A <note>."])
    return path


def data_of(path: Path) -> dict[str, Any]:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


# ------------------------------------------------------------------------------------------------------- packing


def unpack(packed: PackedPeople) -> tuple[list[np.ndarray], LabelMap | None]:
    """The columns of the people and the label map, as the page's script reads them."""
    content = np.frombuffer(zlib.decompress(base64.b64decode(packed.columns)), np.uint8)
    lengths, columns = [packed.number] * 6 + [packed.runs] * 2, []
    for length in lengths:
        columns.append(content[: 4 * length].reshape(4, length).T.copy().view("<u4").ravel().astype(int))
        content = content[4 * length :]
    assert not len(content)
    if packed.mask_size is None:
        return columns[:6], None
    labels, place = np.zeros(packed.mask_size, np.int32), 0
    person = np.repeat(np.arange(packed.number), columns[5])
    for owner, gap, length in zip(person, *columns[6:], strict=True):
        place += packed.mask_size[1] + (-(gap + 1) // 2 if gap % 2 else gap // 2)
        labels.ravel()[place : place + length] = owner + 1
    return columns[:6], labels


def random_people(number: int) -> Prediction:
    """Overlapping rectangles, of which some reach the rim and one is empty."""
    generator, size = np.random.default_rng(number), (70, 110)
    masks = [np.zeros(size, bool) for _ in range(number)]
    for mask in masks[1:]:
        y, x = generator.integers(0, size[0]), generator.integers(0, size[1])
        mask[y : y + generator.integers(1, 40), x : x + generator.integers(1, 40)] = True
    points = generator.uniform(0, 70, (number, 2))
    scores = generator.uniform(0, 1, number).astype(np.float32)
    return Prediction(size, points, scores, rles=[rle.from_mask(mask) for mask in masks])


@pytest.mark.parametrize("number", [0, 1, 40])
@pytest.mark.parametrize("small", [(70, 110), (33, 51), (1, 2)])
def test_people_are_unpacked_as_they_were(number, small):
    prediction = random_people(number)
    packed = pack_people(prediction, prediction.masks(), small, np.full(number, Role.hit), np.array([[3.2, 4.9]]))
    (x, y, score, area, role, _), labels = unpack(packed)
    assert packed.number == number + 1 and (x[-1], y[-1], role[-1]) == (3, 5, Role.missed)
    np.testing.assert_array_equal(np.stack([x, y], 1)[:-1], np.rint(prediction.points))
    np.testing.assert_allclose(score[:-1] / 1000, prediction.scores, atol=0.0006)
    assert area[:-1].tolist() == rle.area(prediction.masks()).tolist() and set(role[:-1]) <= {Role.hit}
    whole = rle.to_label_map(prediction.masks(), prediction.size)
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(small, prediction.size, strict=True))
    if number:
        np.testing.assert_array_equal(labels, whole[np.ix_(rows, columns)])
        areas = rle.area(prediction.masks())
        np.testing.assert_array_equal(labels, draw_small(prediction.masks(), areas, prediction.size, small))


@pytest.mark.parametrize("shape", [(50, 70), (513, 1025), (3000, 700), (20, 4000)])
def test_tiles_make_the_picture(shape):
    rows, columns = (np.linspace(0, 255, n) for n in shape)
    pixels = np.stack(np.broadcast_arrays(rows[:, None], columns[None], 128.0), -1).astype(np.uint8)
    picture = page_picture(pixels, 10_000_000)
    height, width = picture.size
    jpegs = [Image.open(io.BytesIO(base64.b64decode(tile))) for tile in picture.tiles]
    if max(shape) <= 320:
        assert not jpegs and Image.open(io.BytesIO(base64.b64decode(picture.thumbnail))).size == (width, height)
        return
    assert (height, width) == shape  # there is room for all of it
    made, across = Image.new("RGB", (width, height)), -(-width // TILE)
    for number, tile in enumerate(jpegs):
        made.paste(tile, (number % across * TILE, number // across * TILE))
    assert np.abs(np.asarray(made).astype(int) - pixels).mean() < 2


@pytest.mark.parametrize("most", [0, 30_000, 200_000])
def test_a_picture_keeps_to_its_bytes(most):
    noise = np.random.default_rng(0).integers(0, 255, (900, 1300, 3), np.uint8)
    picture = page_picture(noise, most)
    assert len(picture.thumbnail) <= 20_000 and picture.bytes <= max(most, 20_000)
    assert bool(picture.tiles) == (most == 200_000)


def test_a_page_keeps_to_its_bytes_and_says_what_it_leaves_out(tmp_path):
    noise, limit = np.random.default_rng(0), 300_000
    page = PredictionsPage(planned=10, limit=limit)
    for number in range(40):  # more than were planned
        count = number * 7 % 40
        pixels = noise.integers(0, 255, (*SIZE, 3), np.uint8)
        page.add(predicted(count, f"IMG_{number}.jpg")[0], pixels)
    page.write(tmp_path / "page.html", "many")
    text, rows = (tmp_path / "page.html").read_text(), data_of(tmp_path / "page.html")["images"]
    assert len(text) < limit + 60_000 and 5 < len(rows) < 40
    assert [row["count"] for row in rows] == sorted(range(40), reverse=True)[: len(rows)]
    assert f"The {len(rows)} images with the most people are shown; {40 - len(rows)} are left out" in text
    assert "<b>780</b> people found in 40 images" in text


def test_masks_that_do_not_fit_are_coarser_or_left_out_and_the_page_says_so(tmp_path):
    chaos = np.random.default_rng(0).integers(0, 200, SIZE).astype(np.int32)
    prediction = Prediction(SIZE, np.full((200, 2), 9.0), np.ones(200, np.float32), chaos, key="chaos.jpg")
    for limit, masks in ((60_000_000, SIZE), (500_000, (150, 200)), (20_000, None)):
        page = PredictionsPage(planned=1, limit=limit)
        page.add(prediction, np.zeros((*SIZE, 3), np.uint8))
        page.write(tmp_path / "page.html", "chaos")
        text = (tmp_path / "page.html").read_text()
        size = json.loads(re.search(r'id="image-0">(.*?)</script>', text)[1])["masks"]
        assert size == (None if masks is None else list(masks))
        assert ("Of 1 image the masks are left out" in text) == (masks is None)


def test_masks_are_asked_for_once_however_coarse_they_become(tmp_path, monkeypatch):
    asked, masks = [], Prediction.masks
    monkeypatch.setattr(Prediction, "masks", lambda self: asked.append(self) or masks(self))
    chaos = np.random.default_rng(0).integers(0, 200, SIZE).astype(np.int32)
    prediction = Prediction(SIZE, np.full((200, 2), 9.0), np.ones(200, np.float32), chaos, key="chaos.jpg")
    PredictionsPage(planned=1, limit=20_000).add(prediction, np.zeros((*SIZE, 3), np.uint8))
    assert len(asked) == 1


def test_the_page_beside_is_drawn_anew_where_other_settings_or_images_give_the_same_counts(tmp_path):
    files.write_picture(tmp_path / "images/a.png", crowd_of(5)[0])
    page = tmp_path / "out" / PAGE

    def call(masks: bool, with_page: bool = True) -> None:
        images, outputs = find_images([tmp_path / "images"]), Outputs(formats=(), overlay=())
        with (
            PredictionWriter.open(page.parent, images, outputs, settings={"masks": masks}) as writer,
            page_beside(writer, images, "People", "") if with_page else nullcontext(writer.add) as add,
        ):
            for image in writer.todo:
                prediction, pixels = predicted(5, image.name)
                prediction.image = image.path
                prediction.labels = prediction.labels if masks else None
                add(prediction, pixels)

    def shown() -> tuple[bool, str]:
        found = json.loads(re.search(r'id="image-0">(.*?)</script>', page.read_text())[1])
        return found["masks"] is not None, data_of(page)["images"][0]["thumbnail"]

    call(masks=True)
    assert shown()[0]
    call(masks=False, with_page=False)
    call(masks=False)
    assert not shown()[0]
    before = shown()[1]
    files.write_picture(tmp_path / "images/a.png", 255 - crowd_of(5)[0])
    call(masks=False, with_page=False)
    call(masks=False)
    assert shown()[1] != before


def test_counts_without_points(tmp_path):
    page = PredictionsPage(1)
    nobody = np.zeros((0, 2))
    page.add(Prediction(SIZE, nobody, np.zeros(0, np.float32), key="a.jpg", total=12.34567), np.zeros((*SIZE, 3), "u1"))
    page.write(tmp_path / "page.html", "counts")
    assert data_of(tmp_path / "page.html")["images"][0]["count"] == 12.3457


def test_names_are_text_not_markup(tmp_path):
    page, name = PredictionsPage(1), '</script><img src=x onerror="alert(1)">'
    page.add(*predicted(2, name))
    page.write(tmp_path / "page.html", name)
    assert "<img" not in (tmp_path / "page.html").read_text()
    assert data_of(tmp_path / "page.html")["images"][0]["name"] == name


def test_nothing_comes_from_a_network(page, eval_page):
    for path in (page, eval_page):
        text = path.read_text().replace('"http://www.w3.org/2000/svg"', "")  # a name, not an address
        assert not re.search(r"https?://|//\w+\.\w|@import|url\(", text)
        assert "fetch(" not in text and "default-src 'none'" in text


def test_everyone_has_one_role():
    found, _ = scored(9, "a")
    roles = [Role(role).name for role in found.roles]
    assert roles == ["hit"] * 6 + ["false"] * 2 and len(found.missed) == MISSED and found.distance == "8 px"
    matches = found.scores.localization["8 px"]
    assert (matches.matched, matches.predictions, matches.targets) == (6, 8, 9)


def test_people_in_ignored_regions_are_neither_right_nor_wrong():
    found, _ = scored(9, "a")
    rest = np.zeros(SIZE, bool)
    rest[500:] = True  # where the false ones are
    sample = Sample("a", Path("a"), SIZE, found.sample.points, ignore=[rle.from_mask(rest)])
    scorer = Scorer(lambda sample: None)
    scorer.add(sample, found.prediction)
    again = findings(sample, found.prediction, scorer.images[0], boxes=False)
    assert [Role(role).name for role in again.roles] == ["hit"] * 6 + ["ignored"] * 2 and len(again.missed) == MISSED


# ------------------------------------------------------------------------------------------------------ in a browser


WAIT = "const done = arguments[0]; const look = () => READY ? done() : setTimeout(look, 10); look();"


def names_of(visitor: Any) -> list[str]:
    return visitor.ask("[...document.querySelectorAll('#images .image')].map(i => i.title)")


def open_first(visitor: Any) -> None:
    visitor.one(".image").click()
    drawn(visitor)


def drawn(visitor: Any) -> None:
    """Waits until the photograph is decoded and drawn."""
    ready = "open && open.view && !waiting && open.tiles.every(tile => tile.picture || !tile.coming)"
    visitor.browser.execute_async_script(WAIT.replace("READY", ready))
    visitor.settle()


def colour_at(visitor: Any, x: float, y: float) -> list[int]:
    """RGB of the canvas where pixel (x, y) of the photograph is."""
    visitor.settle()
    return visitor.ask(
        "(() => { const ink = element('canvas', {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});"
        f" const v = open.view; ink.drawImage(canvas, -Math.round(v.x + {x + 0.5} * v.k),"
        f" -Math.round(v.y + {y + 0.5} * v.k)); return [...ink.getImageData(0, 0, 1, 1).data].slice(0, 3); }})()"
    )


def move_to(visitor: Any, x: float, y: float) -> Any:
    """The mouse to pixel (x, y) of the photograph."""
    from selenium.webdriver import ActionChains

    place = visitor.ask(
        f"(() => {{ const v = open.view, b = stage.getBoundingClientRect();"
        f" return [b.left + v.x + {x + 0.5} * v.k, b.top + v.y + {y + 0.5} * v.k]; }})()"
    )
    actions = ActionChains(visitor.browser)
    actions.w3c_actions.pointer_action.move_to_location(*map(round, place))
    actions.perform()
    visitor.settle()
    return actions


def test_most_people_are_first_and_every_picture_is_there(visit):
    visitor = visit()
    assert names_of(visitor) == [f"day/IMG_{n}.jpg" for n in (1, 3, 0, 2)]
    texts = [each.text.split("\n") for each in visitor.all(".image")]
    assert texts == [[f"{COUNTS[n]} people", f"IMG_{n}.jpg"] for n in (1, 3, 0, 2)]
    assert "26 people found in 4 images" in visitor.one("header").text
    widths = "Promise.all([...document.querySelectorAll('.image img')].map(i => i.decode().then(() => i.naturalWidth)))"
    assert visitor.ask(widths) == [320] * 4
    assert visitor.ask("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


def test_the_histogram_has_every_image(visit):
    titles = visit().ask("[...document.querySelectorAll('.histograms [title]')].map(b => b.title)")
    assert sum(int(re.search(r": (\d+) images?", title)[1]) for title in titles) == len(COUNTS)
    assert titles[:2] == ["0: 1 image", "1: 0 images"] and titles[-1] == "12: 1 image"


def ends(name: str, values: list[float], low: float = 0.0) -> list[tuple[float, float, int]]:
    return [(bar.low, bar.high, bar.number) for bar in _histogram(name, np.array(values, float), low).bars]


def test_bars_of_whole_people_do_not_meet():
    bars = ends("found", [0, 8, 9, 211])
    assert bars[:2] == [(0, 8, 2), (9, 17, 1)] and bars[-1] == (207, 211, 1) and len(bars) == 24
    bars = ends("error", [-60, 0, 1, -1, 2, 60], -60)
    assert bars[0] == (-60, -60, 1) and bars[-1] == (60, 60, 1) and {(-3, 3, 4), (-10, -4, 0), (4, 10, 0)} < set(bars)
    assert ends("error", [0, 0], -1) == [(-1, -1, 0), (0, 0, 2), (1, 1, 0)]
    assert ends("found", [0.5, 24.0])[:2] == [(0, 1, 1), (1, 2, 0)]


def test_ends_of_plots_are_short_and_whole(visit, tmp_path):
    def spread(number: int) -> np.ndarray:
        return np.stack(np.divmod(np.arange(number), 70), 1) * 14.0

    page = PredictionsPage()
    for number, found, true in ((0, 3001, 4456), (1, 12, 3)):
        size, people = (1000, 1100), spread(found)
        prediction = Prediction(size, people, np.ones(found, np.float32), key=str(number))
        sample = Sample(str(number), Path("a"), size, spread(true))
        scorer = Scorer(lambda sample: None)
        scorer.add(sample, prediction)
        shown = findings(sample, prediction, scorer.images[0], boxes=False, images=2)
        page.add_findings(shown, np.zeros((*size, 3), np.uint8))
    page.write(tmp_path / "page.html", "large")
    visitor = visit(tmp_path / "page.html")
    assert [each.text for each in visitor.all(".ends")] == ["0\n4,456", "-1,455\n1,455"]
    assert [each.text for each in visitor.all("#density-errors text")] == ["0", "4,051", "1,455", "-1,455"]
    for text in visitor.all(".plot text"):
        inside = "(t => { const b = t.getBBox(); return b.x >= 0 && b.x + b.width <= WIDTH; })(arguments[0])"
        assert visitor.browser.execute_script(f"return {inside}", text), text.text


def test_names_are_as_long_as_tells_them_apart(visit, tmp_path):
    page = PredictionsPage()
    for name in ("A/test/IMG_1.jpg", "B/test/IMG_1.jpg", "IMG_1.jpg", "A/test/IMG_2.jpg"):
        page.add(*predicted(2, name))
    page.write(tmp_path / "page.html", "names")
    shown = [each.text.split("\n")[-1] for each in visit(tmp_path / "page.html").all(".image")]
    assert shown == ["A/test/IMG_1.jpg", "B/test/IMG_1.jpg", "IMG_1.jpg", "IMG_2.jpg"]


def test_images_of_more_people_get_more_room(tmp_path):
    noise, page = np.random.default_rng(0), PredictionsPage(planned=12, limit=3_000_000)
    for number in (40, 3, 20, 3, 40, 3):
        page.add(predicted(number, str(number))[0], noise.integers(0, 255, (*SIZE, 3), np.uint8))
    page.write(tmp_path / "page.html", "many")
    text = (tmp_path / "page.html").read_text()
    widths = [json.loads(each)["picture"][1] for each in re.findall(r'id="image-\d">(.*?)</script>', text)]
    assert len(widths) == 6 and min(widths[:2]) > max(widths[3:])


def test_orders_and_search(visit):
    visitor = visit()
    visitor.choose("order", "by name")
    assert names_of(visitor) == [f"day/IMG_{n}.jpg" for n in range(4)]
    visitor.choose("order", "fewest people first")
    assert names_of(visitor) == [f"day/IMG_{n}.jpg" for n in (2, 0, 3, 1)]
    visitor.one("#search").send_keys("img_3")
    assert names_of(visitor) == ["day/IMG_3.jpg"] and visitor.one("#shown").text == "1 of 4 images"
    visitor.one("#search").send_keys(" of nowhere")
    assert names_of(visitor) == []


def test_layers_are_switched_on_and_off(visit):
    visitor = visit()
    open_first(visitor)
    (on_point, on_mask, beside) = (60, 100), (60 + 15, 100 + 15), (60, 130)
    bare = {}
    for name in ("points", "masks"):
        visitor.one(f"#{name}").click()
    for place in (on_point, on_mask, beside):
        bare[place] = colour_at(visitor, *place)
    assert np.abs(np.array(bare[on_mask]) - 200).max() < 12 and np.abs(np.array(bare[beside]) - 30).max() < 12
    visitor.one("#masks").click()
    assert np.ptp(colour_at(visitor, *on_mask)) > 30  # tinted
    assert np.abs(np.array(colour_at(visitor, *beside)) - bare[beside]).max() <= 2
    visitor.one("#masks").click()
    visitor.one("#points").click()
    assert colour_at(visitor, *on_point) == [255, 255, 255]
    assert np.abs(np.array(colour_at(visitor, *on_mask)) - bare[on_mask]).max() <= 2
    visitor.one("#density").click()
    assert np.ptp(colour_at(visitor, *beside)) > 60  # the crowd's heat is wider than its people
    assert np.abs(np.array(colour_at(visitor, 700, 590)) - 30).max() < 12  # nobody is near
    assert "densest: " in visitor.one("#key").text


def test_hovering_says_score_and_area(visit):
    visitor = visit()
    open_first(visitor)
    assert not visitor.one("#tip").is_displayed()
    move_to(visitor, 60 + 70 + 15, 100 + 15)  # on the mask, off the point
    assert visitor.one("#tip").text == "person 2 · score 0.95 · area 1,600 px · at (130, 100)"
    visitor.one("#masks").click()
    move_to(visitor, 60 + 140 + 3, 100 + 3)
    assert visitor.one("#person").text.startswith("person 3 · score 0.90 · area 1,600 px")
    move_to(visitor, 400, 500)
    assert not visitor.one("#tip").is_displayed()


def test_zooming_and_panning_with_the_mouse(visit):
    visitor = visit()
    open_first(visitor)
    before = visitor.ask("open.view")
    actions = move_to(visitor, 130, 100)
    visitor.one("#in").click()
    assert visitor.ask("open.view.k") == pytest.approx(1.5 * before["k"])
    visitor.one("#fit").click()
    assert visitor.ask("open.view") == before
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    middle = ScrollOrigin.from_element(visitor.one("#stage"), 40, 30)
    ActionChains(visitor.browser).scroll_from_origin(middle, 0, -300).perform()
    visitor.settle()
    zoomed = visitor.ask("open.view")
    x, y = (visitor.ask(f"stage.client{side} / 2") + more for side, more in (("Width", 40), ("Height", 30)))
    assert zoomed["k"] > 1.5 * before["k"]
    for axis, place in (("x", x), ("y", y)):  # what was under the mouse still is
        under = [(place - view[axis]) / view["k"] for view in (before, zoomed)]
        assert under[0] == pytest.approx(under[1], abs=2)
    actions = ActionChains(visitor.browser)
    actions.drag_and_drop_by_offset(visitor.one("#stage"), 70, -40).perform()
    visitor.settle()
    moved = visitor.ask("open.view")
    assert (moved["x"] - zoomed["x"], moved["y"] - zoomed["y"]) == (pytest.approx(70), pytest.approx(-40))


def test_a_large_picture_is_decoded_where_it_is_looked_at(visit, tmp_path):
    page = PredictionsPage(1)
    prediction = Prediction((3000, 4000), np.array([[3900.0, 2900.0]]), np.array([0.7], np.float32), key="large.jpg")
    pixels = np.random.default_rng(0).integers(60, 200, (30, 40, 3), np.uint8).repeat(100, 0).repeat(100, 1)
    page.add(prediction, pixels)
    page.write(tmp_path / "page.html", "large")
    visitor = visit(tmp_path / "page.html", width=360, height=740)
    visitor.one(".image").click()
    visitor.browser.execute_async_script(WAIT.replace("READY", "open && open.view"))
    decoded = "open.tiles.filter(tile => tile.coming).length"
    assert visitor.ask("open.tiles.length") == 48 and visitor.ask(decoded) == 0  # the thumbnail is as good there
    assert not visitor.one("#masks").is_enabled()
    visitor.keys(".")
    visitor.ask("zoom(5)")
    near = visitor.ask(decoded)
    assert 0 < near < 24
    assert visitor.one("#person").text == "person 1 · score 0.70 · no mask · at (3900, 2900)"
    visitor.ask("zoom(.4)")
    assert visitor.ask(decoded) > near


def test_everything_by_keyboard(visit):
    from selenium.webdriver import Keys

    visitor = visit()
    visitor.ask("document.querySelector('.image').focus()")
    visitor.keys(Keys.ARROW_RIGHT)
    assert visitor.ask("document.activeElement.title") == "day/IMG_3.jpg"
    visitor.keys(Keys.ENTER)
    drawn(visitor)
    assert visitor.ask("document.activeElement.id") == "stage" and "day/IMG_3.jpg" in visitor.one("#heading").text
    visitor.keys(".", ".")
    assert visitor.one("#person").text.startswith("person 2 · score 0.93 · area 1,600 px")
    visitor.keys(",", ",")
    assert visitor.one("#person").text.startswith("person 9 · ")
    before = visitor.ask("open.view")
    visitor.keys("+")
    assert visitor.ask("open.view.k") > before["k"]
    visitor.keys("0", Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    moved = visitor.ask("open.view")
    assert (moved["x"] - before["x"], moved["y"] - before["y"]) == (-80, -80)
    visitor.keys("p", "m", "d")
    assert [visitor.one(f"#{name}").is_selected() for name in ("points", "masks", "density")] == [False, False, True]
    visitor.keys(Keys.PAGE_DOWN)
    drawn(visitor)
    assert "day/IMG_0.jpg: 5 people" in visitor.one("#heading").text and visitor.one("#next").is_enabled()
    visitor.keys(Keys.PAGE_UP)
    drawn(visitor)
    visitor.keys(Keys.PAGE_UP)
    drawn(visitor)
    visitor.settle()
    assert "day/IMG_1.jpg" in visitor.one("#heading").text and not visitor.one("#previous").is_enabled()
    visitor.keys(Keys.ESCAPE)
    assert not visitor.one("dialog").is_displayed()
    assert visitor.ask("document.activeElement.title") == "day/IMG_1.jpg"
    visitor.keys("/", "img_2 p")
    assert names_of(visitor) == []


def test_an_image_that_comes_when_the_dialog_is_closed_is_not_wanted_any_more(visit):
    visitor = visit()
    open_first(visitor)
    visitor.ask("(turn(1), dialog.close())")
    visitor.browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert not visitor.one("dialog").is_displayed() and visitor.ask("open") is None
    visitor.ask("images[1].button.firstChild.click()")
    drawn(visitor)
    assert "day/IMG_3.jpg" in visitor.one("#heading").text


def test_a_press_ends_with_the_dialog(visit):
    from selenium.webdriver import Keys

    visitor = visit()

    def mouse(kind: str, x: float) -> None:
        event = {"type": f"mouse{kind}", "x": x, "y": 400, "button": "none" if kind == "Moved" else "left"}
        visitor.browser.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": int(kind != "Moved")})
        visitor.settle()

    open_first(visitor)
    mouse("Pressed", 500)
    visitor.keys(Keys.ESCAPE)
    assert not visitor.one("dialog").is_displayed()
    mouse("Released", 500)
    open_first(visitor)
    before = visitor.ask("open.view")
    mouse("Moved", 550)
    mouse("Moved", 600)
    assert visitor.ask("open.view") == before and visitor.ask("stage.className") == ""


def test_the_back_button_closes_the_large_image(visit):
    from selenium.webdriver import Keys

    visitor = visit()
    visitor.browser.execute_script("document.body.style.minHeight = '4000px'")
    address = visitor.browser.current_url

    def closed() -> bool:
        visitor.browser.execute_async_script(WAIT.replace("READY", "!dialog.open && history.state !== LARGE"))
        return visitor.browser.current_url == address

    for _ in range(2):
        open_first(visitor)
        visitor.keys(Keys.PAGE_DOWN)
        drawn(visitor)
        assert visitor.ask("history.state") == "large"
        visitor.ask("history.back()")
        assert closed() and visitor.ask("document.activeElement.title") == "day/IMG_3.jpg"
        open_first(visitor)
        visitor.keys(Keys.ESCAPE)
        assert closed()
    visitor.ask("(images[0].button.firstChild.click(), 0)")
    drawn(visitor)
    visitor.ask("(dialog.close(), images[1].button.firstChild.click())")  # before it has gone back
    drawn(visitor)
    visitor.browser.execute_async_script(WAIT.replace("READY", "dialog.open && history.state === LARGE && !leaving"))
    visitor.ask("history.back()")
    assert closed()
    open_first(visitor)
    visitor.browser.refresh()
    assert not visitor.one("dialog").is_displayed()
    open_first(visitor)
    visitor.keys(Keys.ESCAPE)
    assert closed()


def test_where_the_history_is_closed_the_image_opens_all_the_same(visit, tmp_path, page):
    from selenium.webdriver import Keys

    frame = f'<iframe sandbox="allow-scripts" width=900 height=700 srcdoc="{html.escape(page.read_text())}"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    visitor = visit(tmp_path / "frame.html")
    visitor.browser.switch_to.frame(0)
    visitor.browser.execute_script("history.pushState = () => { throw new DOMException('no', 'SecurityError'); }")
    open_first(visitor)
    visitor.keys(Keys.ESCAPE)
    assert not visitor.one("dialog").is_displayed()
    visitor.browser.switch_to.default_content()


def test_the_next_person_is_one_in_view(visit):
    visitor = visit()
    open_first(visitor)
    visitor.ask("(zoom(6, placeOf(11)), move(0, 0))")  # the second of the lower row
    visitor.keys(".")
    assert visitor.one("#person").text.startswith("person 12 ")
    visitor.ask("(fit(), zoom(6, placeOf(0)))")
    assert not visitor.one("#tip").is_displayed()
    visitor.keys(".")  # not on from the one that is out of sight
    assert visitor.one("#person").text.startswith("person 1 ")


@pytest.mark.parametrize("width", [390, 1400])
def test_the_photograph_is_seen_through_a_dense_crowd(visit, tmp_path, width):
    page, size, number = PredictionsPage(1), (2000, 3000), 5273
    points = np.random.default_rng(0).uniform(0, 1, (number, 2)) * size[::-1]
    page.add(Prediction(size, points, np.ones(number, np.float32), key="dense.jpg"), np.full((*size, 3), 60, np.uint8))
    page.write(tmp_path / "page.html", "dense")
    visitor = visit(tmp_path / "page.html", width=width, height=844)
    open_first(visitor)
    light = (
        "(() => { const v = open.view, w = Math.round(3000 * v.k), h = Math.round(2000 * v.k);"
        " const d = brush.getImageData(v.x, v.y, w, h).data; let sum = 0;"
        " for (let i = 0; i < d.length; i += 4) sum += Math.abs(d[i] - 60) > 25; return sum / (w * h); })()"
    )
    assert 0.03 < visitor.ask(light) < 0.3
    visitor.ask("zoom(20)")
    assert visitor.ask("open.view.k * layer('rooms', roomsOf)[0]") > 30  # there the points are as large as elsewhere


@pytest.mark.parametrize(("width", "height"), [(667, 320), (500, 257)])
def test_in_low_windows_the_photograph_has_most_of_the_height(visit, eval_page, width, height):
    visitor = visit(eval_page, width=width, height=height, phone=True)
    visitor.ask("document.querySelector('.image').click()")
    drawn(visitor)
    assert visitor.ask("stage.clientHeight") > 0.65 * height
    for name in ("close", "previous", "next", "points"):
        assert visitor.one(f"#{name}").rect["x"] < 300
    assert visitor.ask("[dialog.scrollHeight - dialog.clientHeight, dialog.scrollWidth - dialog.clientWidth]") == [0, 0]


def test_the_keys_are_told_beside_the_large_image(visit):
    visitor = visit()
    open_first(visitor)
    visitor.keys("?")
    assert "from image to image" in visitor.one("#help p").text
    visitor.keys("?")
    assert not visitor.one("#help p").is_displayed()


def test_a_tiny_picture_becomes_larger_too(visit, tmp_path):
    page = PredictionsPage(1)
    point = np.array([[5.0, 5.0]])
    page.add(Prediction((12, 12), point, np.ones(1, np.float32), key="a.png"), np.zeros((12, 12, 3), np.uint8))
    page.write(tmp_path / "page.html", "tiny")
    visitor = visit(tmp_path / "page.html")
    open_first(visitor)
    fitted = visitor.ask("open.view.k")
    assert fitted > 40
    visitor.keys("+")
    assert visitor.ask("open.view.k") >= fitted
    visitor.keys("-")
    assert visitor.ask("open.view.k") < fitted


def test_a_mask_from_side_to_side_is_outlined_there(visit, tmp_path):
    page, labels = PredictionsPage(1), np.zeros((30, 40), np.int32)
    labels[10:20] = 1
    prediction = Prediction(labels.shape, np.array([[20.0, 15.0]]), np.ones(1, np.float32), labels, key="a.png")
    page.add(prediction, np.zeros((*labels.shape, 3), np.uint8))
    page.write(tmp_path / "page.html", "wide")
    visitor = visit(tmp_path / "page.html")
    open_first(visitor)
    opacity = "(() => {{ const d = masksLayer().getContext('2d').getImageData({x}, {y}, 1, 1).data; return d[3]; }})()"
    outline, inside = (visitor.ask(opacity.format(x=20, y=y)) for y in (10, 15))
    assert outline > inside > 0
    assert [visitor.ask(opacity.format(x=x, y=15)) for x in (0, 1, 38, 39)] == [outline, inside, inside, outline]


def test_an_old_browser_says_so(visit, browser):
    hidden = browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete window.DecompressionStream"}
    )
    visitor = visit()
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", hidden)
    assert not visitor.one("#old").is_displayed() and len(names_of(visitor)) == len(COUNTS)
    visitor.one(".image").click()
    assert visitor.one("#old").is_displayed() and not visitor.one("dialog").is_displayed()


def test_every_control_has_a_name(visit, eval_page):
    for path in (None, eval_page):
        visitor = visit(path) if path else visit()
        for opened, within in enumerate(("body > :not(dialog)", "dialog")):
            if opened:
                open_first(visitor)  # what is behind it has no name then
            kinds = ("button:not([hidden])", "input", "select", "[tabindex]", "svg[role]", "figure[role]")
            controls = visitor.all(", ".join(f"{within} {kind}" for kind in kinds))
            assert len(controls) > 6
            assert [each.get_attribute("outerHTML")[:80] for each in controls if not each.accessible_name] == []


def test_hits_false_and_missed_people_are_told_apart(visit, eval_page):
    visitor = visit(eval_page)
    assert "A <note>." in visitor.one("#notes").text and visitor.one(".figures").text == "MAE\n1.0"
    assert not visitor.one("#all-figures table").is_displayed()
    visitor.one("#all-figures summary").click()
    table = [row.text for row in visitor.all("#all-figures tr")]
    assert table == ["MAE 1.0 0.5 to 2.0 people per image", "bias +0.5 in all"]
    assert [row.text for row in visitor.all(".ranges tbody tr")] == ["0 1 0 - 0 0", "1-100 3 1 1 50 % -1"]
    assert [each.text.split("\n")[0] for each in visitor.all(".image")] == ["error -1"] * 3 + ["error 0"]
    open_first(visitor)
    assert "5 people" not in visitor.one("#heading").text and "4 found, 5 true" in visitor.one("#heading").text
    assert visitor.one("#key").text.split("\n") == ["hit within 8 px: 2", "false: 2", "missed: 3"]
    marks = visitor.ask(
        "[...document.querySelectorAll('#key canvas')].map(c => [.5, .14].map(y => {"
        " const ink = element('canvas', {width: 36, height: 36}).getContext('2d', {willReadFrequently: true});"
        " ink.drawImage(c, 0, 0); return ink.getImageData(18, 36 * y, 1, 1).data[3] > 200; }))"
    )
    assert marks[0][0] and marks[1][0] and not marks[2][0]  # a disc and a cross are filled there, a ring is not
    assert not marks[0][1] and not marks[1][1] and marks[2][1]
    visitor.one("#masks").click()
    expected = {"--hit": (60 + 70 * 3, 100), "--false": (330, 560)}
    for name, place in expected.items():
        wanted = visitor.ask(f"channels(css('{name}'))")
        assert np.abs(np.array(colour_at(visitor, *place)) - wanted).max() < 12, name
    move_to(visitor, 60, 100)
    assert visitor.one("#tip").text == "missed person at (60, 100)"
    move_to(visitor, 330, 560)
    assert visitor.one("#tip").text.startswith("person 4 · false · score 0.80")


def test_plots_lead_to_the_images(visit, eval_page):
    from selenium.webdriver import Keys

    visitor = visit(eval_page)
    for place in ("scatter", "density-errors"):
        assert len(visitor.all(f"#{place} circle")) == len(COUNTS)
    counts = visitor.ask("[...document.querySelectorAll('#scatter circle')].map(c => c.getAttribute('aria-label'))")
    assert counts == [f"day/IMG_{n}: {count - 1 if count else 0} found, {count} true" for n, count in enumerate(COUNTS)]
    heights = visitor.ask("[...document.querySelectorAll('#density-errors circle')].map(c => +c.getAttribute('cy'))")
    assert heights[0] == heights[1] == heights[3] > heights[2]  # one too few, and none
    visitor.ask("document.querySelectorAll('#scatter circle')[3].dispatchEvent(new MouseEvent('click'))")
    drawn(visitor)
    assert "day/IMG_3" in visitor.one("#heading").text
    visitor.keys(Keys.ESCAPE)
    visitor.ask("document.querySelector('#scatter svg').focus()")
    visitor.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)  # by true counts: 0, then 5
    drawn(visitor)
    assert "day/IMG_0" in visitor.one("#heading").text


def test_a_dot_of_an_image_that_is_not_searched_for(visit, eval_page):
    from selenium.webdriver import Keys

    visitor = visit(eval_page)
    visitor.one("#search").send_keys("img_0")
    visitor.ask("document.querySelectorAll('#scatter circle')[3].dispatchEvent(new MouseEvent('click'))")
    drawn(visitor)
    assert re.search(r"day/IMG_3.* · [1-4] of 4$", visitor.one("#heading").text)
    visitor.keys(Keys.ESCAPE)
    assert visitor.ask("document.activeElement.title") == "day/IMG_3"
    assert visitor.one("#shown").text == "4 images" and visitor.one("#search").get_attribute("value") == ""


def test_orders_of_an_evaluation(visit, eval_page):
    visitor = visit(eval_page)
    options = [option.text for option in visitor.all("#order option")]
    assert "lowest F1 of points" in options and "lowest IoU of masks" not in options  # no true masks there
    visitor.choose("order", "largest error per person first")
    assert names_of(visitor) == [f"day/IMG_{n}" for n in (0, 3, 1, 2)]
    visitor.choose("order", "most found too many")
    assert names_of(visitor)[0] == "day/IMG_2"
    visitor.choose("order", "lowest F1 of points")
    assert names_of(visitor) == [f"day/IMG_{n}" for n in (0, 3, 1, 2)]


@pytest.mark.parametrize("dark", [False, True])
def test_legible_in_the_light_and_in_the_dark(visit, eval_page, dark):
    visitor = visit(eval_page, dark=dark)
    ground = visitor.one("body").value_of_css_property("background-color")
    assert visitor.contrast(ground, "rgb(0, 0, 0)" if dark else "rgb(255, 255, 255)") < 1.3
    for selector in ("h1", ".quiet", "nav label", ".ends", "#shown", ".figures dt"):
        assert visitor.contrast(ground, visitor.one(selector).value_of_css_property("color")) >= 4.5, selector
    raised = visitor.one(".image").value_of_css_property("background-color")
    for selector in (".image b", ".image span"):
        assert visitor.contrast(raised, visitor.one(selector).value_of_css_property("color")) >= 4.5, selector
    assert visitor.contrast(raised, visitor.one(".plot svg text").value_of_css_property("fill")) >= 4.5
    open_first(visitor)
    for selector in ("#heading", "#person", "#key", "dialog label"):
        assert visitor.contrast(ground, visitor.one(selector).value_of_css_property("color")) >= 4.5, selector


def test_on_a_phone(visit, eval_page):
    visitor = visit(eval_page, width=360, height=740, phone=True)
    assert visitor.ask("document.documentElement.scrollWidth") <= 360
    tops = visitor.ask("[...document.querySelectorAll('.image')].map(p => p.getBoundingClientRect().top)")
    assert tops.count(tops[0]) == 2
    visitor.ask("document.querySelector('.image').click()")
    drawn(visitor)
    box = visitor.ask("document.querySelector('dialog').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= 360 and box["bottom"] <= 740
    assert visitor.ask("stage.clientHeight") > 300 and visitor.ask("dialog.scrollWidth <= dialog.clientWidth")
    for button in visitor.all("dialog button"):
        assert button.rect["height"] >= 40  # for a thumb
    tap = visitor.ask(
        "(() => { const b = stage.getBoundingClientRect(), v = open.view;"
        " return {x: b.left + v.x + 60.5 * v.k, y: b.top + v.y + 100.5 * v.k}; })()"
    )
    visitor.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [tap]})
    visitor.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert visitor.one("#tip").text == "missed person at (60, 100)"


def test_what_is_looked_at_stays_when_the_stage_changes(visit, eval_page):
    visitor = visit(eval_page, width=360, height=740, phone=True)
    visitor.ask("document.querySelector('.image').click()")
    drawn(visitor)
    fitted = visitor.ask("open.view")
    visitor.screen(740, 360, phone=True)  # the phone is turned
    assert visitor.ask("open.view.k") == visitor.ask("fitting()") != fitted["k"]
    visitor.screen(360, 740, phone=True)
    assert visitor.ask("open.view") == fitted
    visitor.ask("zoom(4)")
    before, height = visitor.ask("open.view"), visitor.ask("stage.clientHeight")
    visitor.ask("pick(0)")
    assert len(visitor.one("#person").text) > 50  # in two lines
    assert visitor.ask("open.view") == before and visitor.ask("stage.clientHeight") == height
    visitor.ask("get('density').click()")
    lower = visitor.ask("stage.clientHeight")
    assert visitor.ask("open.view") == {**before, "y": before["y"] + (lower - height) / 2}
    place = visitor.one("#tip").rect
    visitor.ask("get('fit').click()")
    assert visitor.ask("open.view.k") == visitor.ask("fitting()") and visitor.one("#tip").rect != place


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(visit, tmp_path, dark):
    name = "day_of_the_long_names" * 9
    collected = PredictionsPage(2)
    for number in (9, 12):
        collected.add_findings(*scored(number, f"{name}/{name}_{number}"))
    figures = [
        Figure(f"mean IoU of masks {n}", "12,345.6", "12,345.6 to 98,765.4", f"of {name}", n < 9) for n in range(12)
    ]
    density = [["10,000-100,000", *["123,456.7"] * 5]]
    notes = [f"Left out of this page: /home/{name}/{name}.jpg is not a readable image."]
    texts = {"about": f"By {name}", "figures": figures, "density": density, "notes": notes}
    collected.write(tmp_path / "page.html", name, **texts)
    visitor = visit(tmp_path / "page.html", width=360, height=740, phone=True, dark=dark)

    def fits() -> bool:
        wide = visitor.ask("[document.documentElement, dialog, stage].map(e => e.scrollWidth - e.clientWidth)")
        return wide == [0, 0, 0] and visitor.ask("innerWidth") == 360

    assert fits()
    visitor.ask("get('old').hidden = get('more').hidden = false")
    visitor.ask("document.querySelector('#all-figures summary').click()")
    visitor.choose("order", "largest error per person first")
    assert fits()
    visitor.ask("document.querySelector('.image').click()")
    drawn(visitor)
    for name in ("density", "in", "in", "next"):
        visitor.ask(f"get('{name}').click()")
        visitor.keys(".")
        assert fits()
