"""How an image is gone through within a limit of memory: the side of the tiles, and how much is drawn at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from crowdseg.engine.memory import OutOfMemory
from crowdseg.errors import UsageError
from crowdseg.memory import free_memory, resident_memory, show_memory
from crowdseg.models import Network, activation_bytes, receptive_radius
from crowdseg.models.network import PAD_TO
from crowdseg.structures import Size

DEFAULT_TILE = 1024  # where no limit is given
LARGEST_TILE = 2048  # beyond it little is won: margins are a fifth of the work
DRAWN_AT_ONCE = 1 << 24  # pixels

# Bytes per pixel of the image, or of what is worked on at a time
DECODED, DECODING = 3, 7  # the array alone, and beside what Pillow holds
MAPS = {False: 1.0, True: 5.0}  # behind the network: logits, probabilities, and with masks the embedding
DRAWING = 18  # a copy of the embedding, the labels twice, their runs
PIXELS = 90  # a tile, beside what a layer takes and gives: its pixels, what waits, what was freed and is still held

_SMALLEST_DRAWING = 1 << 20  # pixels
_known: WeakKeyDictionary[nn.Module, dict[str, float]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Plan:
    """How to go through an image.

    Attributes:
        tile: side of the tiles in pixels.
        strip: pixels that are drawn at once.
        most: pixels to which a strip may grow where circles reach far beyond it; None for no limit.
        together: images of this size that may go through the network at once.
    """

    tile: int = DEFAULT_TILE
    strip: int = DRAWN_AT_ONCE
    most: int | None = None
    together: int = 1


def free_for_predicting(device: torch.device, max_memory: int | None = None) -> int:
    """Bytes that predicting may take on ``device`` beside what is taken already.

    Args:
        max_memory: what this process may hold in all; None for half of what is free beside what it holds.
    """
    if device.type == "cuda":
        held, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        free = torch.cuda.mem_get_info(device)[0] + reserved - held
    else:
        held, free = resident_memory(), free_memory()
    return free // 2 if max_memory is None else max_memory - held


def plan_image(network: Network, size: Size, masks: bool, room: int, tile: int | None = None) -> Plan:
    """The largest tiles and strips with which an image of ``size`` (H, W) takes ``room`` bytes beside itself.

    Args:
        tile: the side of the tiles where it is not to be chosen.

    Raises:
        OutOfMemory: there are none. UsageError: ``tile`` is too small for the network.
    """
    canvas = canvas_of(size)
    if tile:
        check_tile(network, canvas, tile)
    per_pixel, maps = _bytes_per_pixel(network, masks), math.prod(canvas) * MAPS[masks]
    smallest = int(min(tile or smallest_tile(network), max(canvas)))
    least = int(maps + max(per_pixel * _seen_at_once(smallest, canvas), DRAWING * _SMALLEST_DRAWING * masks))
    if least > room:
        what = f"in tiles of {tile}" if tile else "in the smallest tiles"
        raise OutOfMemory(
            f"{size[1]:,} x {size[0]:,} pixels {what} take {show_memory(least)} beside the image and what is loaded, "
            f"and {show_memory(max(room, 0))} may be taken: {_enough(least)}"
            f"{', choose a smaller --tile' * bool(tile)}{', or pass --count-only' * masks}."
        )
    rest = room - maps
    together = int(room / (maps + per_pixel * math.prod(canvas)))
    fitting = int(math.sqrt(rest / per_pixel)) // PAD_TO * PAD_TO
    chosen = tile or max(smallest, min(fitting, LARGEST_TILE))
    most = int(rest / DRAWING)
    strip = min(DRAWN_AT_ONCE, most // 2)  # the points whose circles reach in lie beside it
    return Plan(chosen, strip, most, max(1, together))


def check_file(
    network: Network, size: Size, masks: bool, max_memory: int | None = None, tile: int | None = None
) -> None:
    """Refuse an image of ``size`` (H, W) before it is read.

    Raises:
        OutOfMemory: it cannot be decoded or predicted within ``max_memory`` (see :func:`free_for_predicting`).
    """
    device, pixels = next(network.parameters()).device, math.prod(size)
    room = free_for_predicting(torch.device("cpu"), max_memory)
    if DECODING * pixels > room:
        raise OutOfMemory(
            f"{size[1]:,} x {size[0]:,} pixels take {show_memory(DECODING * pixels)} to decode beside what is loaded, "
            f"and {show_memory(max(room, 0))} may be taken: {_enough(DECODING * pixels)}."
        )
    room = free_for_predicting(device, max_memory) if device.type == "cuda" else room - DECODED * pixels
    plan_image(network, size, masks, room, tile)


def _enough(needed: int) -> str:
    return f"pass --max-memory {show_memory(resident_memory() + needed).replace(' ', '')} or more"


def canvas_of(size: Size) -> Size:
    """``size`` (H, W) filled up to multiples of 32."""
    height, width = (-(-length // PAD_TO) * PAD_TO for length in size)
    return height, width


def check_tile(network: Network, canvas: Size, tile: int) -> None:
    """Refuse tiles that are too small for a network.

    Raises:
        UsageError: names the smallest.
    """
    if max(canvas) <= tile or tile >= (smallest := smallest_tile(network)):
        return
    if smallest < max(canvas):
        raise UsageError(f"--tile {tile} is too small for this network: use at least {smallest}.")
    raise UsageError(
        f"This backbone looks at the whole image at once, so tiles would change what it sees: pass --tile "
        f"{max(canvas)} to do an image of this size whole."
    )


def smallest_tile(network: Network) -> int | float:
    """The smallest side of tiles that a network can do; infinity for one that looks at the whole image at once."""
    return _once(network, "smallest tile", lambda: _smallest_tile(network))


def _smallest_tile(network: Network) -> int | float:
    if any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules()):
        return math.inf
    return 2 * receptive_radius(network) + PAD_TO


def _seen_at_once(tile: float, canvas: Size) -> float:
    """Pixels of the largest tile."""
    return min(tile, canvas[0]) * min(tile, canvas[1])


def _bytes_per_pixel(network: Network, masks: bool) -> float:
    return _once(network, f"bytes, {masks}", lambda: activation_bytes(network, masks) + PIXELS)


def _once(network: Network, name: str, measure: Callable[[], float]) -> float:
    """What a pass through the network tells, asked once for each network."""
    known = _known.setdefault(network, {})
    if name not in known:
        known[name] = measure()
    return known[name]
