"""What the accuracy benchmark takes out of XMask is out, and nothing else."""

from __future__ import annotations

import pytest
import torch

from benchmarks import ablations
from crowdseg.config import make_config
from crowdseg.methods.pseudo import Detections
from crowdseg.methods.xmask import Target, XMask

SIZE = (64, 64)


@pytest.fixture
def embedding() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, 16, 16, 16), dim=1)


def people(number: int) -> Detections:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(number, 2, generator=generator) * 60 + 2
    return Detections(points, torch.full((number,), 0.95), torch.arange(number) * 2 // max(number, 1))


def drawn(kind: type[XMask], embedding: torch.Tensor, number: int) -> torch.Tensor:
    method = kind(make_config("demo", overrides=["width=8", "xmask.energy_threshold=1.6"]), "none")
    return method._draw(embedding, people(number), SIZE, None)


def test_every_few_draws_a_part_of_many_and_all_of_few(embedding: torch.Tensor) -> None:
    assert torch.equal(drawn(ablations.EveryFew, embedding, 20), drawn(XMask, embedding, 20))
    labels = drawn(ablations.EveryFew, embedding, 400)  # 200 in each image: every fourth
    assert 0 < len(labels[0].unique()) - 1 <= 50


def test_without_circles_people_reach_beyond_their_neighbours(embedding: torch.Tensor) -> None:
    assert (drawn(ablations.WithoutCircles, embedding, 40) > 0).sum() > (drawn(XMask, embedding, 40) > 0).sum()


def test_overlapping_masks_hide_those_of_smaller_index(embedding: torch.Tensor) -> None:
    exclusive, painted = drawn(XMask, embedding, 40), drawn(ablations.Overlapping, embedding, 40)
    assert torch.equal(exclusive > 0, painted > 0)  # together they cover the same
    assert (painted >= exclusive).all() and (painted > exclusive).any()


def test_at_cells_moves_the_seeds_to_the_middles_of_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(XMask, "_losses", lambda self, output, target, weights: seen.append(target) or {})
    seeds = Detections(torch.tensor([[0.0, 3.4], [4.2, 7.0]]), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    method = ablations.AtCells(make_config("demo", overrides=["width=8"]), "none")
    method._losses(None, Target(seeds, seeds), {})
    assert seen[0].seeds.points.tolist() == [[1.5, 1.5], [5.5, 5.5]]
    assert seen[0].people.points is seeds.points  # P2R's are where they were
