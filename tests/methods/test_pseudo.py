"""Pseudo-labels: which cells are taken for people, and masks read at cells."""

from __future__ import annotations

import torch

from crowdseg.config import make_config
from crowdseg.losses import mask_constraint_loss
from crowdseg.methods import METHODS
from crowdseg.methods.pseudo import Detections, cell_places, detect, labels_at_cells


def logits_with(cells: dict[tuple[int, int], float]) -> torch.Tensor:
    logits = torch.full((1, 8, 8), -6.0)
    for (row, column), value in cells.items():
        logits[0, row, column] = value
    return logits


def test_shoulders_of_a_peak_are_not_people() -> None:
    logits = logits_with({(2, 2): 4.0, (2, 3): 3.0, (3, 3): 1.0, (6, 6): -1.0})
    assert len(detect(logits, 0.1).points) == 4
    people = detect(logits, 0.1, peaks=True)
    assert people.points.tolist() == [[9.5, 9.5], [25.5, 25.5]]
    assert torch.allclose(people.probability, torch.tensor([4.0, -1.0]).sigmoid())


def test_peaks_of_a_batch_do_not_see_each_other() -> None:
    logits = torch.cat([logits_with({(0, 0): 4.0}), logits_with({(0, 1): 3.0})])
    assert detect(logits, 0.5, peaks=True).batch_index.tolist() == [0, 1]


def test_a_persons_cell_has_its_label_even_where_its_middle_lies_off_the_mask() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int32)
    labels[0, 3, 3] = 2  # one pixel, in the corner of the first cell
    labels[0, 4:12, 8:12] = 1
    people = Detections(torch.tensor([[9.0, 5.0], [3.0, 3.0]]), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    at_cells = labels_at_cells(labels, people)
    assert at_cells.shape == (1, 4, 4)
    assert at_cells[0].tolist() == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert labels[0, 2, 2] == 0  # the labels themselves are as they were


def test_cell_places_are_the_cells_own_numbers() -> None:
    assert cell_places(torch.tensor([[1.5, 5.5]])).tolist() == [[0.0, 1.0]]


def test_the_constraint_at_cells_sees_a_sharp_peak_that_resizing_hides() -> None:
    logits = logits_with({(2, 2): 1.0})
    labels = torch.zeros(1, 32, 32, dtype=torch.int32)
    labels[0, 8:12, 8:12] = 1
    person = Detections(torch.tensor([[9.5, 9.5]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    at_pixels = mask_constraint_loss(logits, labels)
    at_cells = mask_constraint_loss(logits, labels_at_cells(labels, person))
    assert at_pixels.single_peak_hard == 1  # nobody seen
    assert at_cells.single_peak_hard == 0


def test_the_mask_head_has_a_rate_of_its_own_where_one_is_given() -> None:
    config = make_config("demo", overrides=["segment.mask_lr=0.5", "segment.lr=0.25"])
    method = METHODS["xmask"](config, "none")
    rates = {id(group["params"][0]): group["lr"] for group in method.parameter_groups("segment", config.segment)}
    parts = dict(method.student.named_children())
    assert rates[id(next(parts["mask_head"].parameters()))] == 0.5
    assert rates[id(next(parts["fuse"].parameters()))] == 0.25
