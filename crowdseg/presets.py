"""Presets: the nine published runs with the figures the papers print for them, and ``demo`` for a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """What a paper prints for a run, not measured here; ``labels`` and ``mean_iou_c`` in percent, None: not printed."""

    dataset: str
    labels: int
    mae: float | None = None
    rmse: float | None = None
    mean_iou_c: float | None = None
    of: str = "XMask"


def _published(
    weight_decay: float,
    epochs: int,
    lr: float,
    weights: tuple[float, float, float],
    energy: tuple[float, float] = (0.8, 0.6),
) -> dict[str, Any]:
    """A row of spec section 10: what differs between the runs, all of it in the counting stage."""
    background, unit_mass, single_peak = weights
    return {
        "count": {"epochs": epochs, "lr": lr, "weight_decay": weight_decay},
        "xmask": {
            "background_weight": background,
            "unit_mass_weight": unit_mass,
            "single_peak_weight": single_peak,
            "energy_threshold": energy[0],
            "geometry_weight": energy[1],
        },
    }


PRESETS: dict[str, dict[str, Any]] = {
    "sha-5": {"ratio": 0.05, **_published(1e-4, 100, 5e-5, (0, 0.005, 0))},
    "sha-10": {"ratio": 0.1, **_published(1e-4, 100, 5e-6, (0, 0.005, 0))},
    "sha-40": {"ratio": 0.4, **_published(1e-4, 75, 1e-5, (0.1, 0.005, 0), (0.95, 0.4))},
    "qnrf-5": {"ratio": 0.05, **_published(1e-4, 50, 1e-5, (0.05, 0.0025, 0))},
    "qnrf-10": {"ratio": 0.1, **_published(5e-4, 500, 1e-5, (0, 0, 1.0))},
    "qnrf-40": {"ratio": 0.4, **_published(1e-5, 2000, 5e-6, (0.01, 0, 0.005))},
    "jhu-5": {"ratio": 0.05, **_published(1e-6, 300, 1e-5, (0.05, 0, 0.01))},
    "jhu-10": {"ratio": 0.1, **_published(1e-4, 300, 1e-5, (0.05, 0, 0))},
    "jhu-40": {"ratio": 0.4, **_published(1e-5, 300, 1e-5, (0.05, 0, 0))},
    "demo": {
        "backbone": "tiny",
        "backbone_weights": "none",
        "width": 48,
        "batch_size": 4,
        "workers": 0,
        "val_fraction": 0.15,
        "pretrain": {
            "epochs": 36,
            "lr": 2e-3,
            "encoder_lr": 2e-3,
            "schedule": "cosine",
            "warmup_epochs": 12,
            "unlabelled_rate": 0.05,
            "unlabelled_max": 1.0,
        },
        "segment": {"epochs": 22, "lr": 2e-3, "schedule": "cosine", "warmup_epochs": 8, "unlabelled_rate": 0.05},
        "count": {"epochs": 12, "lr": 1e-3, "schedule": "cosine"},
        "xmask": {
            "momentum": 0.98,
            "segment_p2r_weight": 1.0,
            # after minutes of training the embedding is too rough for the published evaluation values
            "eval_energy_threshold": 0.8,
            "eval_geometry_weight": 0.6,
            "eval_sigma": 1.5,
        },
    },
}


# preset -> what was published with its dataset and share of labels, XMask's own row first
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "sha-5": (
        Published("ShanghaiTech A", 5, mean_iou_c=31.4),
        Published("ShanghaiTech A", 5, mae=69.9, of="P2R alone"),
    ),
    "sha-10": (Published("ShanghaiTech A", 10, mean_iou_c=31.8),),
    "sha-40": (Published("ShanghaiTech A", 40, mae=56.2, mean_iou_c=33.3),),
    "qnrf-5": (Published("UCF-QNRF", 5),),
    "qnrf-10": (Published("UCF-QNRF", 10),),
    "qnrf-40": (Published("UCF-QNRF", 40, mae=84.0),),
    "jhu-5": (Published("JHU-CROWD++", 5, mae=77.1, rmse=289.5),),
    "jhu-10": (Published("JHU-CROWD++", 10, mae=68.8, rmse=258.7),),
    "jhu-40": (Published("JHU-CROWD++", 40, mae=62.0, rmse=265.1),),
}
