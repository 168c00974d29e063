"""What the kernels are to reach, as ratios of two rows of one run."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.table import Table

Rows = list[dict[str, Any]]


class Target(NamedTuple):
    """``slower`` takes at least ``ratio`` times what ``faster`` takes (at most, where ``at_most``)."""

    benchmark: str
    where: dict[str, Any]  # of both rows
    slower: dict[str, Any]
    ratio: float
    faster: dict[str, Any] = {"contender": "native"}  # noqa: RUF012 (never changed)
    quantity: str = "ms"  # or memory_mb
    at_most: bool = False


def _crop(count: int, batch: int = 1) -> dict[str, Any]:
    return {"size": [256, 256], "batch": batch, "points": count, "layout": "uniform"}


def _large(layout: str = "uniform") -> dict[str, Any]:
    return {"size": [1536, 2048], "points": 5000, "layout": layout}


_TORCH, _DENSE, _NATIVE = {"contender": "torch"}, {"contender": "dense"}, {"contender": "native"}
_TREE, _PASSES = {"contender": "cKDTree"}, {"contender": "pass per point"}
_ENERGY = {"size": [768, 1024], "points": 5000, "layout": "uniform"}

ON_CPU = [
    Target("pull_push", _crop(200), _TORCH, 15),
    Target("pull_push", _crop(200), _DENSE, 200),
    Target("pull_push", _crop(200), _DENSE, 100, quantity="memory_mb"),
    Target("pull_push", {}, _NATIVE | _crop(1000), 2, faster=_NATIVE | _crop(10), at_most=True),
    Target("pull_push", _large(), _TORCH, 20),
    Target("radii", {"points": 1000, "layout": "uniform"}, _TREE, 5),
    *(Target("radii", {"points": 10**k, "layout": "uniform"}, _TREE, 10) for k in (4, 5, 6)),
    *(Target("radii", {"points": 10**k, "layout": "clustered"}, _TREE, 5) for k in (3, 4, 5, 6)),
    Target("exclusion", _large(), _TORCH, 40),
    Target("energy", _ENERGY, _TORCH, 30),
    Target("energy", _ENERGY, _PASSES, 20_000),
]
ON_CUDA = [Target("pull_push", _crop(200, batch=8), _TORCH, 10), Target("pull_push", _large(), _TORCH, 20)]


def check(benchmarks: dict[str, Rows]) -> list[dict[str, Any]]:
    """A row for each target whose two rows were measured. On the CPU one thread's time decides, as neighbours make two
    threads' times what they like."""
    rows = [row for rows in benchmarks.values() for row in rows]
    on_cuda = any("gpu_ms" in row for row in rows)
    found = (_check(target, benchmarks.get(target.benchmark, [])) for target in (ON_CUDA if on_cuda else ON_CPU))
    return [row for row in found if row]


def _check(target: Target, rows: Rows) -> dict[str, Any] | None:
    slower, faster = _find(rows, target.where | target.slower), _find(rows, target.where | target.faster)
    if slower is None or faster is None:
        return None
    keys = ("gpu_ms", "cpu_ms", "wall_ms") if target.quantity == "ms" else (target.quantity,)
    ratios = [slower[key] / max(faster[key], 1e-3) for key in keys if slower.get(key) and faster.get(key) is not None]
    if not ratios:
        return None
    reached = ratios[0] <= target.ratio if target.at_most else ratios[0] >= target.ratio
    return {
        "benchmark": target.benchmark,
        "case": slower["case"],
        "quantity": "time" if target.quantity == "ms" else "memory",
        "against": target.slower["contender"] if not target.at_most else f"itself, N {faster['points']}",
        "ratio": ratios[0],
        "ratio_two_threads": ratios[1] if len(ratios) > 1 else None,
        "to_reach": target.ratio,
        "at_most": target.at_most,
        "reached": reached,
    }


def _find(rows: Rows, wanted: dict[str, Any]) -> dict[str, Any] | None:
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def table(rows: Rows) -> Table:
    table = Table(title="To reach, native against others", title_justify="left")
    for name in ("benchmark", "case", "quantity", "against"):
        table.add_column(name)
    for name in ("ratio", "with two threads", "to reach", "reached"):
        table.add_column(name, justify="right")
    for row in rows:
        two = f"{row['ratio_two_threads']:,.1f}" if row["ratio_two_threads"] else "-"
        wanted = f"{'<=' if row['at_most'] else '>='} {row['to_reach']:,}"
        texts = (row[key] for key in ("benchmark", "case", "quantity", "against"))
        table.add_row(*texts, f"{row['ratio']:,.1f}", two, wanted, "yes" if row["reached"] else "NO")
    return table
