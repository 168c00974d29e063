"""The published method's numbers, worked out once in float64 (``xmask_cases.json``)."""

import json
from pathlib import Path

import pytest
import torch

from crowdseg import ops

CASES = json.loads((Path(__file__).parent / "xmask_cases.json").read_text())
FLOATS = [torch.float32, torch.float64]


def cases(name):
    return pytest.mark.parametrize("case", CASES[name], ids=lambda case: f"{name}-{len(case['points'])}-points")


@pytest.mark.parametrize("dtype", FLOATS)
class TestGolden:
    @cases("radii")
    def test_radii(self, case, dtype):
        points = torch.tensor(case["points"], dtype=dtype)
        radii = ops.nearest_neighbor_radii(points, min_radius=case["lo"], max_radius=case["hi"])
        torch.testing.assert_close(radii, torch.tensor(case["radii"], dtype=dtype))

    @cases("exclusion_labels")
    def test_exclusion_labels(self, case, dtype):
        points, radii = (torch.tensor(case[key], dtype=dtype) for key in ("points", "radii"))
        assert ops.exclusion_labels(points, radii, case["size"])[0].tolist() == case["labels"]

    @cases("center_features")
    def test_center_features(self, case, dtype):
        embedding, points = (torch.tensor(case[key], dtype=dtype) for key in ("embedding", "points"))
        blur = {key: case[key] for key in ("kernel_size", "sigma")}
        features = ops.smoothed_center_features(embedding[None], points, case["size"], **blur)
        torch.testing.assert_close(features, torch.tensor(case["features"], dtype=dtype), rtol=0, atol=2e-6)

    @cases("pull_push")
    def test_pull_push(self, case, dtype):
        embedding, points = (torch.tensor(case[key], dtype=dtype) for key in ("embedding", "points"))
        labels = torch.tensor(case["labels"])
        valid = torch.tensor(case["valid"], dtype=torch.bool)[None] if "valid" in case else None
        settings = {key: case[key] for key in ("margin", "kernel_size", "sigma", "min_radius", "max_radius_factor")}
        loss = ops.pull_push_loss(embedding[None], points, labels[None], valid=valid, threshold=case["tau"], **settings)
        assert loss.item() == pytest.approx(case["loss"], abs=2e-6)

    @cases("energy_labels")
    def test_energy_labels(self, case, dtype):
        embedding, points, radii = (torch.tensor(case[key], dtype=dtype) for key in ("embedding", "points", "radii"))
        labels = ops.energy_labels(
            embedding[None],
            points,
            radii,
            case["size"],
            geometry_weight=case["lambda_geo"],
            energy_threshold=case["threshold"],
            kernel_size=case["kernel_size"],
            sigma=case["sigma"],
        )
        assert labels[0].tolist() == case["labels"]

    @cases("p2r")
    def test_p2r_targets(self, case, dtype):
        logits = torch.tensor(case["logits"], dtype=dtype)
        points = torch.tensor(case["points"], dtype=dtype).view(-1, 2)
        targets, _ = ops.p2r_targets(logits[None], points, case["stride"])
        assert targets[0].tolist() == case["targets"]
