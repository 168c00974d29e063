"""Whether an image fits into memory, asked before it is read."""

from __future__ import annotations

from crowdseg.errors import DataError
from crowdseg.memory import free_memory
from crowdseg.structures import Sample

# Beside the program itself, blobs peaked at 138 bytes per pixel (2,500 nuclei on 2000 x 3000 px; 111 with 10,000 on
# 4000 x 6000) and bodies at 70.
BYTES_PER_PIXEL = 150


def memory_of(sample: Sample) -> int:
    """Bytes that making the image's masks takes."""
    height, width = sample.size
    return height * width * BYTES_PER_PIXEL


def check_memory(sample: Sample) -> None:
    """Refuse an image whose masks would take more memory than is free.

    Raises:
        DataError: it is too large; names the image, its size and both amounts.
    """
    height, width = sample.size
    need, free = memory_of(sample), free_memory()
    if need > free:
        raise DataError(
            f"{sample.image} has {width:,} x {height:,} pixels: its masks take about {need / 2**30:,.0f} GB of memory, "
            f"and {free / 2**30:,.1f} GB are free. Cut it into parts."
        )
