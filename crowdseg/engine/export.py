"""A run's network as one file for other runtimes, ONNX or TorchScript: written once it agrees with PyTorch."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crowdseg import files
from crowdseg.engine.model import Model, load
from crowdseg.errors import CrowdsegError, SetupError, UsageError
from crowdseg.models import OUTPUT_STRIDE, Network, normalise
from crowdseg.models.network import IMAGE_MEAN, IMAGE_STD, PAD_TO

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}
INPUT, OUTPUTS = "image", ("logits", "embedding")
NOBODY = -100.0  # logit of the cells that lie in the filling: a sigmoid of 0 in every precision
TOLERANCE = 1e-3  # largest difference from PyTorch that is accepted, in logits and in a unit embedding
TRACED = (2, 70, 106)  # images, height, width of what the exporters look at
# None is the traced size in any of the three; one is a whole number of tiles, one less than a tile in one direction
CHECKED = ((1, 96, 64), (3, 45, 131), (1, 20, 200))

Run = Callable[[Tensor], tuple[Tensor, ...]]
Tick = Callable[[int, int], None]  # steps done, of how many


@dataclass(frozen=True)
class ExportResult:
    """What :func:`export_model` wrote.

    Attributes:
        path: the file. format: ``"onnx"`` or ``"torchscript"``. run: the folder of the run.
        outputs: names of its outputs, in order.
        difference: largest absolute difference from PyTorch over ``sizes``, each (images, H, W).
    """

    path: Path
    format: str
    run: Path
    outputs: tuple[str, ...]
    difference: float
    sizes: tuple[tuple[int, int, int], ...] = CHECKED


class ExportedNetwork(nn.Module):
    """What is exported: from RGB pixels as decoded to the network's output, for any number and size of images.

    ``(B, H, W, 3)`` uint8 -> logits ``(B, h, w)`` and, where the network draws masks, unit embeddings
    ``(B, 16, h, w)``; ``h`` and ``w`` are a quarter of H and W rounded up to multiples of 32. Cells outside the image
    have the logit ``NOBODY``.
    """

    def __init__(self, network: Network, masks: bool = True) -> None:
        super().__init__()
        self.network, self.masks = network, masks
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN))
        self.register_buffer("deviation", torch.tensor(IMAGE_STD))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        height, width = image.shape[1], image.shape[2]
        fill = (0, -width % PAD_TO, 0, -height % PAD_TO)
        pixels = ((image.float() / 255 - self.mean) / self.deviation).permute(0, 3, 1, 2)
        # a cell's centre lies in the image exactly if the pixel behind its centre does
        centre = OUTPUT_STRIDE // 2
        inside = F.pad(torch.ones_like(pixels[:, 0]), fill)[:, centre::OUTPUT_STRIDE, centre::OUTPUT_STRIDE]

        features = self.network.fuse(*self.network.encoder(F.pad(pixels, fill)))
        logits = self.network.density_head(features).masked_fill(inside == 0, NOBODY)
        if not self.masks:
            return (logits,)
        return logits, self.network.mask_head(features, _coordinates(features))


def _coordinates(features: Tensor) -> Tensor:
    """As the network's own, for a whole image; without ``arange``, which would keep the device of the tracing."""
    y, x = (2 * (torch.ones_like(line).cumsum(0) - 1) / (line.shape[0] - 1) - 1 for line in _axes(features))
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(features.shape[0], -1, -1, -1)


def _axes(features: Tensor) -> tuple[Tensor, Tensor]:
    return features[0, 0, :, 0], features[0, 0, 0]


def export_model(
    run: Model | Path | str | None = None,
    format: str = "onnx",
    out: Path | str | None = None,
    *,
    tick: Tick | None = None,
) -> ExportResult:
    """Write the network of a run as one file that needs no crowdseg; :class:`ExportedNetwork` tells what goes in.

    The file is run beside PyTorch at three sizes, none of them the traced one, before it takes its place.

    Args:
        run: a run's folder or a loaded model; default the newest run under ``./runs``.
        format: ``"onnx"`` or ``"torchscript"``.
        out: the file; default ``runs/export/NAME/model.onnx`` (``.pt``).
        tick: called with the steps done and their number.

    Raises:
        UsageError: there is no such format or run. SetupError: packages are missing. CrowdsegError: the exported
            network differs from PyTorch's; nothing is written.
    """
    if format not in SUFFIXES:
        raise UsageError(f"There is no export format `{format}`: use {' or '.join(SUFFIXES)}.")
    if format == "onnx":
        _require_onnx()
    model = run if isinstance(run, Model) else load(run, "cpu")
    path = Path(out) if out else default_path(model, format)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it, such as {path / f'model{SUFFIXES[format]}'}.")
    network = copy.deepcopy(model.network).float().cpu().eval().requires_grad_(False)
    if not model.draws_masks:
        del network.mask_head
    exportable = ExportedNetwork(network, model.draws_masks).eval()
    tell = tick or (lambda done, total: None)
    tell(0, 1 + len(CHECKED))
    with files.atomic(path) as temporary:
        _WRITERS[format](exportable, temporary)
        exported = _READERS[format](temporary)
        difference = 0.0
        for done, size in enumerate(CHECKED, 1):
            tell(done, 1 + len(CHECKED))
            difference = max(difference, _difference(exported, network, model.draws_masks, size))
        tell(1 + len(CHECKED), 1 + len(CHECKED))
        if not difference <= TOLERANCE:
            raise CrowdsegError(
                f"The {format} export of {model.run} differs from PyTorch by {difference:.1e} (accepted {TOLERANCE:g}) "
                "and was not written: try the other format, or another version of torch."
            )
    return ExportResult(path, format, model.run, OUTPUTS[: 1 + model.draws_masks], difference)


def default_path(model: Model, format: str) -> Path:
    """Where an export goes unless told otherwise: a folder of its own, for the model card beside it."""
    return files.RUNS / "export" / model.name / f"model{SUFFIXES[format]}"


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SetupError(
            f"Exporting to ONNX needs the package {error.name}: install it with `pip install 'crowdseg[onnx]'`."
        ) from error


def _write_onnx(network: ExportedNetwork, file: Path) -> None:
    import onnx

    axes = {0: "batch", 1: "height", 2: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            network,
            (_noise(TRACED),),
            dynamo=True,
            input_names=[INPUT],
            output_names=OUTPUTS[: 1 + network.masks],
            dynamic_shapes={INPUT: axes},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for output in model.graph.output:  # its sizes by name, in place of formulas of the input's
        for axis, name in zip(output.type.tensor_type.shape.dim[-2:], ("rows", "columns"), strict=True):
            axis.dim_param = name
    onnx.save(model, file)


def _read_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda image: tuple(torch.from_numpy(each) for each in session.run(None, {INPUT: image.numpy()}))


def _write_torchscript(network: ExportedNetwork, file: Path) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are kept as what they are, which the check of other sizes proves
        torch.jit.save(torch.jit.trace(network, (_noise(TRACED),), check_trace=False), content)
    file.write_bytes(content.getvalue())  # by name it refuses files without a suffix


def _read_torchscript(file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(file), "cpu")


_WRITERS = {"onnx": _write_onnx, "torchscript": _write_torchscript}
_READERS = {"onnx": _read_onnx, "torchscript": _read_torchscript}


@torch.inference_mode()
def _difference(exported: Run, network: Network, masks: bool, size: tuple[int, int, int]) -> float:
    """Largest absolute difference between the exported network and the network itself, on noise of this size."""
    _, height, width = size
    image = _noise(size)
    filled = F.pad(normalise(image.permute(0, 3, 1, 2)), (0, -width % PAD_TO, 0, -height % PAD_TO))
    expected = network(filled, masks)
    logits = torch.full_like(expected.logits, NOBODY)
    inside = (..., slice((height + 1) // OUTPUT_STRIDE), slice((width + 1) // OUTPUT_STRIDE))
    logits[inside] = expected.logits[inside]
    pairs = zip(exported(image), (logits, expected.embedding)[: 1 + masks], strict=True)
    return max(float((found - right).abs().max()) for found, right in pairs)


def _noise(size: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
