"""One image after another to masks, in this process or in several; a bad image is reported, not raised."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crowdseg.data import read_image
from crowdseg.errors import CrowdsegError, WriteError
from crowdseg.masks.memory import check_memory, memory_of
from crowdseg.masks.prepare import masks_from_points
from crowdseg.masks.segmenters import make_segmenter
from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.store import MaskStore
from crowdseg.memory import free_memory
from crowdseg.structures import Sample

_LEAST_IMAGES = 8  # per process: starting one takes about as long as some of them


class Worker:
    """Makes the masks of an image and keeps them.

    Raises:
        SetupError: the weights are not there or not of this model.
    """

    def __init__(self, settings: MaskSettings, checkpoint: Path | None) -> None:
        self.settings, self.checkpoint = settings, checkpoint
        self.segmenter = make_segmenter(settings, checkpoint)

    def prepare(self, sample: Sample, store: MaskStore) -> str | None:
        """What went wrong with the image, None where nothing did.

        Raises:
            WriteError: the masks cannot be kept, so neither could those of the next image.
        """
        try:
            check_memory(sample)
            image = read_image(sample.image)
            if image.shape[:2] != tuple(sample.size):
                return f"{sample.image} changed while it was in use: run again."
            assert sample.points is not None
            store.write(sample, *masks_from_points(image, sample.points, self.segmenter, self.settings))
        except WriteError:
            raise
        except CrowdsegError as error:
            return str(error)
        except Exception as error:  # whatever one image provokes, the others go on
            return f"{sample.image} failed ({type(error).__name__}: {error})."
        return None


def prepare_all(
    samples: list[Sample], store: MaskStore, worker: Worker, workers: int | None
) -> Iterator[tuple[Sample, str | None]]:
    """Each sample as it is finished, with what went wrong; ``workers`` processes, None for as many as are of use.

    Images that memory would not hold ``workers`` times at once are done at the end, one at a time.

    Raises:
        WriteError: masks cannot be kept. CrowdsegError: a process died.
    """
    if workers is None:
        workers = _of_use(len(samples), worker.settings.segmenter)
    workers = min(workers, len(samples))
    if workers > 1:
        share = free_memory() // workers
        yield from _in_processes([each for each in samples if memory_of(each) <= share], store, worker, workers)
        samples = [each for each in samples if memory_of(each) > share]
    for sample in samples:
        yield sample, worker.prepare(sample, store)


def _of_use(images: int, segmenter: str) -> int:
    """How many processes are worth their start. A SAM fills a GPU, or a CPU's memory, alone."""
    return 1 if segmenter == "sam" else min(os.cpu_count() or 1, -(-images // _LEAST_IMAGES))


def _in_processes(
    samples: list[Sample], store: MaskStore, worker: Worker, workers: int
) -> Iterator[tuple[Sample, str | None]]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    # spawn: a fork of a process that has started torch's threads can hang
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_process, (threads, worker.settings, worker.checkpoint)
    )
    try:
        with _unheard():  # submitting starts the processes
            futures: dict[Future[str | None], Sample] = {
                pool.submit(_prepare_in_process, sample, store): sample for sample in samples
            }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise CrowdsegError(
            "A worker process died, perhaps for lack of memory. What was finished is kept: "
            "run again with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _unheard() -> Iterator[None]:
    """Ctrl-C is for this process: those that start in the block finish their image, and are quiet while they start."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: Worker | None = None  # of this process


def _start_process(threads: int, *arguments: Any) -> None:
    global _worker
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in _unheard, which Windows has not
    _worker = Worker(*arguments)


def _prepare_in_process(sample: Sample, store: MaskStore) -> str | None:
    assert _worker is not None
    return _worker.prepare(sample, store)
