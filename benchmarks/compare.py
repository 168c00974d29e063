"""The comparison that every operator's benchmark runs: agree, measure memory, then time all contenders in turns.

Rows, in JSON: ``case``, the inputs in words; ``size`` as [H, W]; ``batch`` B; ``points`` of each image; ``layout``;
``contender``; on the CPU ``cpu_ms`` (one thread's processor time) and ``wall_ms`` (two threads), on CUDA ``gpu_ms``,
medians, each with a ``_spread``, the distance of the quartiles in percent of the median; ``times_native``, the first
time over the native one; ``memory_mb``, the peak beyond what was there before the call, in 1e6 bytes; ``roof``, the
compulsory bytes over the first time, in percent of the bandwidth that was measured in the run; ``extrapolated``, True
where only some points were measured; ``note``. Null is what was not measured.
"""

from __future__ import annotations

import logging
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol

import torch

from benchmarks.agreement import Disagreement
from benchmarks.common import Column, Options, Report, Row, plain, show
from benchmarks.timing import Clock, Measure, bandwidth_roof, clocks, interleave, knows_memory, peak_megabytes
from crowdseg import ops
from crowdseg.errors import SetupError

DENSE_NUMBERS = 1 << 27  # a dense formula may make so many numbers; beyond, it is extrapolated
PART_NUMBERS = 1 << 26  # from parts of so many numbers and a third of it
COMPILE_SECONDS = 120
RECOMPILE_LIMIT = 64  # the default, 8, leaves parts of the references uncompiled


class Inputs(Protocol):
    """What operators are compared on: :class:`benchmarks.scenes.Scene` and the like."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def layout(self) -> str: ...

    @property
    def batch(self) -> int: ...

    @property
    def count(self) -> int: ...

    def first(self, count: int) -> Any: ...


@dataclass
class Operator:
    """What is compared.

    Attributes:
        title: of the table.
        call: the public function on a scene.
        agree: raises :class:`Disagreement` unless a contender's result (first) is the expected one on the scene (last).
        compulsory: bytes of the inputs and outputs on a scene, each once.
        reference: the pure-torch function; ``compiled``, given it compiled, does on a scene what ``call`` does.
        others: further contenders, by name.
        dense: those of ``others`` whose work is ``dense_width`` numbers for each of a scene's points; what would be too
            much is extrapolated.
        expected: the result to expect on a scene, where it is not pure torch's ``call``.
    """

    title: str
    call: Callable[[Any], Any]
    agree: Callable[[Any, Any, Any], None]
    compulsory: Callable[[Any], int] | None = None
    reference: Callable[..., Any] | None = None
    compiled: Callable[[Callable[..., Any], Any], Any] | None = None
    others: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    dense: Sequence[str] = ()
    dense_width: Callable[[Any], int] = lambda scene: scene.batch * scene.size[0] * scene.size[1]
    expected: Callable[[Any], Any] | None = None


@dataclass
class Contender:
    """A way of doing an operator's work on a scene."""

    name: str
    run: Callable[[Any], Any] | None  # None where it does not run here, and ``note`` says why
    scenes: list[Any]  # the scene, or two with a part of its points each
    count: int  # points of each image in the whole scene
    note: str = ""

    @property
    def extrapolated(self) -> bool:
        return len(self.scenes) == 2

    def whole(self, measure: Measure) -> float:
        """What ``measure`` says of the work on the whole scene; from two parts, along the line through them."""
        assert self.run is not None
        values = [measure(partial(self.run, scene)) for scene in self.scenes]
        if not self.extrapolated:
            return values[0]
        low, high = (scene.count for scene in self.scenes)
        return values[1] + (values[1] - values[0]) / (high - low) * (self.count - high)


def compare(operator: Operator, scenes: Iterable[Inputs], options: Options) -> Report:
    """Rows of all contenders on all scenes.

    Raises:
        Disagreement: a contender gives another result than pure torch does.
    """
    timers = clocks(options.device)
    report = _report(operator.title, timers)
    for scene in scenes:
        torch.set_num_threads(timers[0].threads)
        print(f"{operator.title}: {_inputs(scene)}", file=sys.stderr)
        contenders = list(_contenders(operator, scene, options.device))
        for contender in contenders:
            _agree(operator, contender)
        rows = [_row(scene, contender, timers) for contender in contenders]
        _measure([(c, row) for c, row in zip(contenders, rows, strict=True) if c.run], timers, options)
        _relate(rows, operator.compulsory and operator.compulsory(scene), timers[0], options.device)
        report.rows += rows
    return report


def _contenders(operator: Operator, scene: Inputs, device: str) -> Iterator[Contender]:
    if native_is_here(device):
        yield Contender("native", _on("native", operator.call), [scene], scene.count)
    yield Contender("torch", _on("torch", operator.call), [scene], scene.count)
    if operator.reference and operator.compiled:
        yield _compiled(operator.reference, operator.compiled, scene)
    for name, run in operator.others.items():
        yield Contender(name, run, _parts(operator, scene) if name in operator.dense else [scene], scene.count)


@cache
def native_is_here(device: str) -> bool:
    """Whether there are compiled kernels; says on stderr why not."""
    try:
        with ops.use_backend("native"):
            return ops.backend(device) == "native"
    except SetupError as error:
        print(f"no rows for native: {error}", file=sys.stderr)
        return False


def _on(backend: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(scene: Any) -> Any:
        with ops.use_backend(backend):
            return call(scene)

    return run


def _parts(operator: Operator, scene: Inputs) -> list[Inputs]:
    """The scene, or two parts of it where the dense formula would make too many numbers."""
    width = operator.dense_width(scene)
    if width * scene.count <= DENSE_NUMBERS:
        return [scene]
    high = max(6, PART_NUMBERS // width)
    return [scene.first(high // 3), scene.first(high)]


def _compiled(reference: Callable[..., Any], call: Callable[..., Any], scene: Inputs) -> Contender:
    """The reference compiled for the scene's sizes; the note says what that took, or why it cannot be."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    torch._inductor.config.compile_threads = 1  # no worker processes beside what is timed
    for name in ("torch._dynamo", "torch._inductor", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    run = partial(call, torch.compile(reference))
    start = time.perf_counter()
    try:
        with _time_limit(COMPILE_SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2):  # sizes that turn out to change are compiled again
                run(scene)
    except _TooLongError:
        return Contender("torch.compile", None, [scene], scene.count, f"not compiled within {COMPILE_SECONDS} s")
    except Exception as error:  # the compiler's own, of many types; among them, that there is no C++ compiler
        return Contender("torch.compile", None, [scene], scene.count, f"not compiled: {type(error).__name__}")
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    note = f"compiled in {time.perf_counter() - start:.0f} s, {breaks} graph breaks"
    return Contender("torch.compile", run, [scene], scene.count, note)


class _TooLongError(BaseException):
    """The compiler handles every ``Exception`` itself."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _agree(operator: Operator, contender: Contender) -> None:
    """Checks what is run: the scene, or the larger of its parts."""
    if contender.run is None:
        return
    scene = contender.scenes[-1]
    found = contender.run(scene)
    expected = _on("torch", operator.expected or operator.call)(scene)
    try:
        operator.agree(found, expected, scene)
    except Disagreement as error:
        where = f"{operator.title}, {_inputs(scene)}"
        raise Disagreement(f"{where}: {contender.name} and torch disagree: {error}") from None


def _measure(runners: list[tuple[Contender, Row]], timers: list[Clock], options: Options) -> None:
    """Memory and times of each contender, into its row."""
    if knows_memory(options.device):
        for contender, row in runners:
            row["memory_mb"] = contender.whole(partial(peak_megabytes, device=options.device))
    for clock in timers:
        tasks = [contender.whole for contender, _ in runners]
        samples = interleave(tasks, clock, 0.3 if options.quick else 3.0)
        for (_, row), seconds in zip(runners, samples, strict=True):
            low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
            row |= {f"{clock.name}_ms": 1e3 * median, f"{clock.name}_spread": 100 * (high - low) / median}


def _relate(rows: list[Row], compulsory: int | None, clock: Clock, device: str) -> None:
    """Times beside the native one, and beside what the compulsory bytes take at the memory's full bandwidth."""
    key = f"{clock.name}_ms"
    native = next((row[key] for row in rows if row["contender"] == "native"), None)
    for row in rows:
        if row[key] and native:
            row["times_native"] = row[key] / native
        if row[key] and compulsory:
            row["roof"] = 100 * compulsory / bandwidth_roof(device) / (row[key] / 1e3)


def _row(scene: Inputs, contender: Contender, timers: list[Clock]) -> Row:
    timed = {f"{clock.name}_{kind}": None for clock in timers for kind in ("ms", "spread")}
    return {
        "case": _inputs(scene),
        "size": list(scene.size),
        "batch": scene.batch,
        "points": scene.count,
        "layout": scene.layout,
        "contender": contender.name,
        **timed,
        "times_native": None,
        "memory_mb": None,
        "roof": None,
        "extrapolated": contender.extrapolated,
        "note": ", ".join(filter(None, ["extrapolated" if contender.extrapolated else "", contender.note])),
    }


def _report(title: str, timers: list[Clock]) -> Report:
    return Report(
        title,
        [
            plain("case"),
            plain("contender"),
            *(Column(f"{clock.name} ms", partial(_time, clock.name)) for clock in timers),
            Column("x native", lambda row: show(row["times_native"], ",.3g")),
            Column("MB", lambda row: show(row["memory_mb"], ",.1f")),
            Column("roof %", lambda row: show(row["roof"], ".2g")),
            plain("note"),
        ],
        section=lambda row: row["case"],
    )


def _inputs(scene: Inputs) -> str:
    height, width = scene.size
    return f"{height} x {width}, B {scene.batch}, N {scene.count:,}, {scene.layout}"


def _time(clock: str, row: Row) -> str:
    return f"{show(row[f'{clock}_ms'], ',.4g')} ± {show(row[f'{clock}_spread'], '.0f')} %"
