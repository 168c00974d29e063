"""The demo in small: every step of the public API after the other."""

from __future__ import annotations

from crowdseg.config import make_config
from crowdseg.demo import STEPS, run_demo


def test_the_demo_scores_all_contenders_and_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config(
        "demo",
        overrides=["width=8", "crop=64", "ratio=0.3", "pretrain.epochs=2", "segment.epochs=1", "count.epochs=1"],
    )
    said: list[str] = []
    result = run_demo(tmp_path / "demo", images=10, size=(128, 160), config=config, say=said.append)
    assert said == list(STEPS[:-1])
    model, alone, circles, mean = result.rows
    assert model.mae is not None and model.f1 is not None
    assert alone.mean_iou_c is not None and circles.mean_iou_c is not None
    assert mean.mae is not None and mean.mean_iou_c is None
    weights = tmp_path / "demo" / "count" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = run_demo(tmp_path / "demo", images=10, size=(128, 160), config=config, say=lambda _: None)
    assert again.rows == result.rows and weights.stat().st_mtime_ns == before
