"""The plot of the accuracy benchmark."""

from __future__ import annotations

import json

from PIL import Image

from benchmarks import accuracy_plot


def row(data: str, variant: str, *, seeds: int = 2) -> dict:
    scores = {name: [10.0 + seed for seed in range(seeds)] for name in ("MAE", "RMSE", "F1", "mean IoU C", "circles")}
    return {"data": data, "variant": variant, "seeds": seeds, **scores}


def test_every_dataset_has_a_line_of_panels(tmp_path) -> None:
    heights = []
    for names in (["drawn"], ["drawn", "real"]):
        rows = [row(data, variant) for data in names for variant in ("labels alone", "XMask")]
        file = tmp_path / "rows.json"
        file.write_text(json.dumps({"benchmarks": {"accuracy": rows}}))
        with Image.open(accuracy_plot.draw(file, tmp_path / "plot.png")) as picture:
            heights.append(picture.height)
    assert heights[1] == 2 * heights[0]


def test_the_gain_is_over_circles_seed_by_seed() -> None:
    found = {**row("drawn", "XMask"), "mean IoU C": [20.0, 22.0], "circles": [9.0, 8.0]}
    assert accuracy_plot._values(found, "gain") == [11.0, 14.0]
