"""XMask: exclusivity-guided mask learning (spec sections 0 and 4 to 7).

Three stages over one network: ``pretrain`` learns to count (P2R), ``segment`` an embedding in which the pixels of
one person lie together (pull/push), ``count`` counts again under the masks' constraint. In each the teacher, a moving
average of the student, labels the unlabelled crops.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crowdseg import losses, ops
from crowdseg.config import StageConfig, TrainConfig
from crowdseg.methods.base import Batch, Labelled, Method, Progress, StepResult, Task, Unlabelled
from crowdseg.methods.pseudo import Detections, cell_places, detect, labels_at_cells, person_labels
from crowdseg.models import OUTPUT_STRIDE, Network, Output, build_backbone

# stage -> parts of the network that train in it; the encoder trains where its learning rate is not 0
TRAINED = {
    "pretrain": ("encoder", "fuse", "density_head"),
    "segment": ("fuse", "density_head", "mask_head"),
    "count": ("fuse", "density_head"),
}


class XMask(Method):
    name: ClassVar[str] = "xmask"
    stages: ClassVar[dict[Task, tuple[str, ...]]] = {"seg": ("pretrain", "segment"), "count": ("count",)}

    def __init__(self, config: TrainConfig, backbone_weights: str) -> None:
        self.config = config.xmask
        self.freeze_batch_norm = config.freeze_batch_norm
        self.student: nn.Module = Network(build_backbone(config.backbone, backbone_weights), config.width)
        self.network = self.student  # stays bare where the engine wraps the student
        self.teacher: Network = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.steps = 0  # of the stage: the teacher follows more closely at its beginning

    # What trains

    def start_stage(self, stage: str) -> None:
        self.steps = 0
        for name, part in self.network.named_children():
            part.requires_grad_(name in self._trained(stage))

    def _trained(self, stage: str) -> tuple[str, ...]:
        # Several processes wait for every gradient, and without P2R the stage gives the density head none
        left_out = "density_head" if "p2r" not in self._weights(stage) else None
        return tuple(name for name in TRAINED[stage] if name != left_out)

    def parameter_groups(self, stage: str, config: StageConfig) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for name, part in self.network.named_children():
            if name in self._trained(stage):
                lr = _rate(name, config)
                part.requires_grad_(lr > 0)
                groups.append({"params": list(part.parameters()), "lr": lr})
        return [group for group in groups if group["lr"] > 0]

    def train_mode(self, stage: str) -> None:
        self.teacher.eval()
        for part in self.network.children():
            part.train(any(p.requires_grad for p in part.parameters()))
        if self.freeze_batch_norm:
            for module in self.network.encoder.modules():  # type: ignore[union-attr, operator]
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    @torch.no_grad()
    def after_step(self) -> None:
        """The teacher's parameters follow by moving average; its buffers (batch norm) are copied."""
        self.steps += 1
        momentum = min(self.config.momentum, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.teacher.parameters(), self.network.parameters(), strict=True)
        for old, new in pairs:
            if new.requires_grad:
                old.lerp_(new, 1 - momentum)
        for kept, fresh in zip(self.teacher.buffers(), self.network.buffers(), strict=True):
            kept.copy_(fresh)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]

    # Losses

    def step(self, batch: Batch, progress: Progress) -> StepResult:
        weights = self._weights(progress.stage)
        with_masks = "pull_push" in weights
        logs = self._losses(self.student(batch.labelled.images, with_masks), _annotated(batch.labelled), weights)
        loss = _weighted(logs, weights)
        unlabelled = batch.unlabelled if progress.unlabelled_weight > 0 else None
        if unlabelled is not None:
            with kept_statistics(self.network):
                seen = self.student(unlabelled.strong, with_masks)
            terms = self._losses(seen, self._pseudo_target(seen, unlabelled, progress.stage), weights)
            loss = losses.semi_supervised(loss, _weighted(terms, weights), progress.unlabelled_weight)
            logs |= {f"{name}_unlabelled": value for name, value in terms.items()}
        return StepResult(loss, {"loss": loss.detach(), **{name: value.detach() for name, value in logs.items()}})

    def _weights(self, stage: str) -> dict[str, float]:
        """The stage's loss terms; those of weight 0 are left out, except what only this stage can watch."""
        c = self.config
        if stage == "pretrain":
            return {"p2r": 1.0}
        if stage == "segment":
            return {"pull_push": 1.0} | ({"p2r": c.segment_p2r_weight} if c.segment_p2r_weight else {})
        constraint = {
            "background": c.background_weight,
            "unit_mass": c.unit_mass_weight,
            "single_peak": c.single_peak_weight,
            "consistency": c.consistency_weight,
        }
        return {"p2r": 1.0, **constraint}

    def _losses(self, output: Output, target: Target, weights: dict[str, float]) -> dict[str, Tensor]:
        """Every term of ``weights`` by name, and what is only watched (``*_hard``)."""
        c, terms = self.config, {}
        if "p2r" in weights:
            people = target.people
            terms["p2r"] = losses.p2r_loss(
                output.logits,
                people.points,
                OUTPUT_STRIDE,
                people.batch_index,
                keep=target.keep,
                confidence=target.confidence,
            )
        if "pull_push" in weights:
            assert output.embedding is not None
            terms["pull_push"] = ops.pull_push_loss(
                output.embedding,
                target.seeds.points,
                target.labels,
                target.seeds.batch_index,
                valid=target.valid,
                threshold=c.threshold,
                margin=c.margin,
                sigma=c.sigma,
            )
        if "unit_mass" in weights:
            terms |= self._mask_constraint(output, target)
        return terms

    def _mask_constraint(self, output: Output, target: Target) -> dict[str, Tensor]:
        c, sure, labels = self.config, target.sure, target.labels
        at_cells = c.constraint_at == "cells"
        if at_cells:
            labels = labels_at_cells(labels, target.people)
            sure = None if sure is None else replace(sure, points=cell_places(sure.points))
        constraint = losses.mask_constraint_loss(
            output.logits,
            labels,
            None if sure is None else sure.points,
            None if sure is None else sure.batch_index,
            temperature=c.single_peak_temperature,
        )
        consistency = losses.point_mask_consistency(output.logits, target.labels)
        return {**constraint._asdict(), "consistency": consistency.loss, "disagreements": consistency.disagreements}

    def _pseudo_target(self, seen: Output, unlabelled: Unlabelled, stage: str) -> Target:
        """What the teacher says of the weak crops, for the student's output ``seen`` of the strong ones."""
        c = self.config
        with torch.inference_mode():
            pseudo: Output = self.teacher(unlabelled.weak, stage != "pretrain")
        people = detect(pseudo.logits, c.candidate_probability, peaks=c.pseudo_points == "peaks")
        sure = people.probability > c.confident_probability
        target = Target(people, people, people.select(sure), confidence=sure.float(), keep=unlabelled.keep)
        if pseudo.embedding is None:
            return target
        # doubtful candidates block their whole circle where background is to be trusted (section 5.3)
        doubtful = people.probability <= 0.5 if stage == "count" else None
        size = (unlabelled.keep.shape[-2], unlabelled.keep.shape[-1])
        target.labels = self._draw(pseudo.embedding, people, size, doubtful)
        if stage == "segment":  # for pull/push alone
            target.seeds = detect(seen.logits, 0.5)
            target.valid = unlabelled.keep & ~_discs(people.select(~sure), c.doubtful_radius, unlabelled.keep)
        return target

    def _draw(
        self,
        embedding: Tensor,
        people: Detections,
        size: tuple[int, int],
        whole: Tensor | None,
        radii: Tensor | None = None,
    ) -> Tensor:
        """The people's masks as labels ``(B, H, W)``; those of ``whole`` ``(N,)`` get their circle."""
        c = self.config
        return person_labels(
            embedding,
            people,
            size,
            energy_threshold=c.energy_threshold,
            geometry_weight=c.geometry_weight,
            sigma=c.sigma,
            claim_circle=whole,
            radii=radii,
        )


@dataclass
class Target:
    """What a batch should be: its people, and for the stages with masks their labels.

    Attributes:
        people: all annotated people, or the teacher's candidates.
        seeds: the points whose pixels pull/push gathers.
        sure: the people whose instances the mask constraint counts, or None for all.
        confidence: ``(N,)`` of ``people``; keep, valid: ``(B, H, W)`` bool; labels: ``(B, H, W)`` int32.
    """

    people: Detections
    seeds: Detections
    sure: Detections | None = None
    confidence: Tensor | None = None
    keep: Tensor | None = None
    valid: Tensor | None = None
    labels: Tensor = field(default_factory=lambda: torch.empty(0))


def _rate(part: str, config: StageConfig) -> float:
    if part == "encoder":
        return config.encoder_lr
    return config.mask_lr if part == "mask_head" and config.mask_lr is not None else config.lr


def _annotated(batch: Labelled) -> Target:
    people = Detections(batch.points, torch.ones(len(batch.points), device=batch.points.device), batch.batch_index)
    return Target(people, people, labels=batch.labels)


def _discs(found: Detections, radius: float, like: Tensor) -> Tensor:
    """``(B, H, W)`` bool, True within ``radius`` pixels of a detection."""
    radii = torch.full_like(found.probability, radius)
    size = (like.shape[-2], like.shape[-1])
    return ops.exclusion_labels(found.points, radii, size, found.batch_index, len(like)) > 0


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch, and does not learn it: colours that are jittered, blurred and cut out are not
    those of the images that the teacher, and every later user, will see."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return torch.stack([weight * terms[name] for name, weight in weights.items() if weight]).sum()
