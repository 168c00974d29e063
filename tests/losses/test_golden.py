"""The published method's numbers, worked out once in float64 (``tests/ops/xmask_cases.json``)."""

import json
from pathlib import Path

import pytest
import torch

from crowdseg import losses

CASES = json.loads((Path(__file__).parent.parent / "ops" / "xmask_cases.json").read_text())
FLOATS = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES["p2r"], ids=["crowd", "nobody"])
def test_p2r(case, dtype):
    logits = torch.tensor(case["logits"], dtype=dtype)
    points = torch.tensor(case["points"], dtype=dtype).view(-1, 2)
    assert losses.p2r_loss(logits[None], points, case["stride"]).item() == pytest.approx(case["loss"], abs=2e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES["mask_constraint"])
def test_mask_constraint(case, dtype):
    logits, labels = torch.tensor(case["logits"], dtype=dtype), torch.tensor(case["labels"])
    result = losses.mask_constraint_loss(logits[None], labels[None])
    for term in ("background", "unit_mass", "single_peak_hard"):
        assert getattr(result, term).item() == pytest.approx(case[term], abs=2e-6), term
