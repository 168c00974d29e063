"""``crowdseg demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything. A rerun goes on where the last stopped.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Draws another crowd.")] = 0,
) -> None:
    """Draw a synthetic crowd and run everything on it: masks, training, evaluation, prediction. A few minutes."""
    from crowdseg.demo import STEPS, run_demo
    from crowdseg.engine import load
    from crowdseg.engine.image_files import find_images
    from crowdseg.engine.predicting import predict_images
    from crowdseg.report import console
    from crowdseg.report.demo import demo_table
    from crowdseg.report.prediction import Outputs, PredictionWriter
    from crowdseg.report.predictions_page import PAGE, page_beside
    from crowdseg.report.training import shown

    def say(step: str) -> None:
        console.err.rule(f"{STEPS.index(step) + 1}/{len(STEPS)} {step}", align="left")

    result = run_demo(out, seed=seed, workers=None, say=say, shown=shown)
    say(STEPS[-1])
    images = find_images([str(out / "data" / "part_A" / "test_data" / "images")])
    folder = out / "predictions"
    outputs = Outputs(label_maps=True)
    with (
        PredictionWriter.open(folder, images, outputs, overwrite=True, info={"run": str(result.run)}) as writer,
        page_beside(writer, images, "People in the test images", f"By {result.run}.") as add,
    ):
        predict_images(load(result.run), images, add)
    console.out.print(demo_table(result))
    console.out.print(f"Look at {folder / PAGE}, {folder / 'overlays'}, {result.run / 'curves.png'}", highlight=False)
