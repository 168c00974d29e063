"""The demo's table."""

from __future__ import annotations

from rich.table import Table

from crowdseg.demo import DemoResult


def demo_table(result: DemoResult) -> Table:
    """Counting errors (people), located people and mask quality (percent) of each contender on the test images."""
    table = Table(title="Test images of the synthetic crowd")
    table.add_column("")
    for name in ("MAE", "RMSE", "F1 within 8 px", "Mean IoU C"):
        table.add_column(name, justify="right")
    for row in result.rows:
        figures = [_text(row.mae, 1), _text(row.rmse, 1), _text(row.f1, 100), _text(row.mean_iou_c, 100)]
        table.add_row(row.name, *figures, style="bold" if row is result.rows[0] else None)
    return table


def _text(value: float | None, factor: float) -> str:
    return "–" if value is None else f"{factor * value:.1f}"
