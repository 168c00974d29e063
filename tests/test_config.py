"""Settings: presets, files, overrides, and what is refused."""

from __future__ import annotations

import pytest

from crowdseg.config import PRESETS, config_text, make_config, read_config
from crowdseg.errors import UsageError
from crowdseg.presets import PUBLISHED


def test_a_saved_configuration_reads_back_equal(tmp_path) -> None:
    config = make_config("demo", overrides=["pretrain.lr=5e-5", "scale=[0.5,1]", "amp=true"], ratio=0.3)
    (tmp_path / "config.yaml").write_text(config_text(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert (config.pretrain.lr, config.scale, config.amp, config.ratio) == (5e-5, (0.5, 1.0), True, 0.3)


def test_later_sources_win(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: demo\nseed: 5\nbatch_size: 8\n")
    config = make_config("sha-5", file, ["seed=7"], seed=6)
    assert (config.preset, config.backbone, config.seed, config.batch_size) == ("demo", "tiny", 7, 8)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name: str) -> None:
    config = make_config(name)
    assert config.preset == name
    assert config.ratio is not None and all(getattr(config, s).epochs > 0 for s in ("pretrain", "segment", "count"))


def test_every_preset_but_the_demo_stands_for_a_published_run() -> None:
    assert list(PUBLISHED) == [name for name in PRESETS if name != "demo"]
    for name, (own, *_) in PUBLISHED.items():
        assert own.of == "XMask" and PRESETS[name]["ratio"] == own.labels / 100


def test_published_values() -> None:
    config = make_config("sha-40")
    assert (config.count.epochs, config.count.lr, config.count.weight_decay) == (75, 1e-5, 1e-4)
    assert config.pretrain.weight_decay == config.segment.weight_decay == 0
    assert (config.xmask.background_weight, config.xmask.unit_mass_weight) == (0.1, 0.005)
    assert (config.xmask.energy_threshold, config.xmask.geometry_weight) == (0.95, 0.4)
    assert (config.pretrain.epochs + config.segment.epochs, config.pretrain.encoder_lr) == (2000, 1e-5)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("foo=1", "foo"),
        ("pretrain.lrr=1", "pretrain.lr"),
        ("pretrain=3", "pretrain"),
        ("ratio=2", "ratio=2"),
        ("batch_size=x", "batch_size"),
        ("amp=3", "amp"),
        ("scale=1", "scale"),
        ("seed", "key=value"),
        ("crop=100", "crop=100"),
        ("count.schedule=linear", "count.schedule"),
        ("pretrain.lr=[1", "not a YAML value"),
        ("scale=[a, b]", "two numbers"),
        ("batch_size=.inf", "batch_size"),
        ("seed=-1", "seed"),
        ("eval_images=0", "eval_images"),
        ("preset=sha-5", "--preset"),
    ],
)
def test_bad_settings_are_refused_by_name(override: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_config("demo", overrides=[override])


def test_unknown_presets_and_unreadable_files_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="no preset `sha-50`"):
        make_config("sha-50")
    (tmp_path / "bad.yaml").write_text("- a\n- b\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    for name in ("bad.yaml", "broken.yaml", "missing.yaml"):
        with pytest.raises(UsageError, match=name) as error:
            make_config(file=tmp_path / name)
        assert "\n" not in str(error.value)
