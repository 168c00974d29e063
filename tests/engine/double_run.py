"""``crowdseg`` in double precision with all three stages in one run; stops as the environment says.

In double precision what rounding makes of two orders of summing stays far below what any mistake would make.
``KILL`` (of process 0) and ``INTERRUPT`` (of process 1) are numbers of steps done in this process.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any, ClassVar

from crowdseg.cli import main
from crowdseg.engine.plan import TrainingPlan
from crowdseg.methods import METHODS, Batch, Progress, StepResult
from crowdseg.methods.xmask import XMask

STOPS = {"KILL": ("0", signal.SIGKILL), "INTERRUPT": ("1", signal.SIGINT)}


class Double(XMask):
    stages: ClassVar[dict[Any, tuple[str, ...]]] = {"seg": ("pretrain", "segment", "count")}
    done = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        last = self.network.density_head.layers[-2]
        last.weight.data.mul_(100)  # as it begins it sees nobody anywhere, and the unlabelled half would be empty
        last.bias.data.zero_()
        self.teacher.load_state_dict(self.network.state_dict())
        self.network.double(), self.teacher.double()

    def step(self, batch: Batch, progress: Progress) -> StepResult:
        labelled, unlabelled = replace(batch.labelled, images=batch.labelled.images.double()), batch.unlabelled
        if unlabelled is not None:
            unlabelled = replace(unlabelled, weak=unlabelled.weak.double(), strong=unlabelled.strong.double())
        return super().step(Batch(labelled, unlabelled), progress)

    def after_step(self) -> None:
        super().after_step()
        Double.done += 1
        for name, (rank, kind) in STOPS.items():
            if os.environ.get(name) == str(Double.done) and os.environ.get("RANK") == rank:
                os.kill(os.getpid(), kind)


METHODS["xmask"] = Double
TrainingPlan.estimate = lambda *_: None  # type: ignore[method-assign, assignment]  # its steps would be counted
main()
