"""Pictures of a run for its work dir: reconstructions of a few images, losses, and probes.

Axes: N images, C channels, (H, W) pixels, (h, w) mask blocks.
"""

import time
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image, ImageDraw
from torch import Tensor, nn

from a2mim.engine.history import Curve, curve_points, loss_curves
from a2mim.engine.processes import bare_model
from a2mim.engine.records import Record
from a2mim.engine.sharding import is_sharded
from a2mim.interfaces import Algorithm
from a2mim.length import is_due
from a2mim.masking import upsample_mask
from a2mim.registry import HOOKS

GAP = 4  # pixels between images
CAPTION = 16  # pixels of the strip above a row
LEAST_SIDE = 96  # images smaller than this are enlarged by whole factors
PAPER = 255
NUM_IMAGES = 4
PERCENTILES = (2, 98)
FLAT = 1e-3  # of pixel values in [0, 255]
SECONDS_BETWEEN = 30  # a drawing takes some tenths of a second, an epoch may take less


def picture_grid(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw ``{caption: images}`` as one picture, a row per entry.

    Args:
        rows: uint8 arrays (N, C, H, W), all of one shape. Three channels are taken as RGB, fewer
            as grey (the first), and of more the first three are shown.

    Returns:
        uint8 array (height, width, 3).
    """
    strips = []
    for caption, images in rows.items():
        tiles = [_framed(_enlarged(_rgb(image))) for image in images]
        row = np.concatenate(tiles, axis=1)
        strips += [_caption(caption, row.shape[1]), row]
    return np.concatenate(strips, axis=0)


def _rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W, 3)."""
    channels = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    return channels.transpose(1, 2, 0)


def _enlarged(image: np.ndarray) -> np.ndarray:
    factor = -(-LEAST_SIDE // min(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _framed(image: np.ndarray) -> np.ndarray:
    margin = ((GAP // 2, GAP // 2), (GAP // 2, GAP // 2), (0, 0))
    return np.pad(image, margin, constant_values=PAPER)


def _caption(text: str, width: int) -> np.ndarray:
    strip = Image.new('RGB', (width, CAPTION), (PAPER,) * 3)
    ImageDraw.Draw(strip).text((GAP, 2), text, fill=(0, 0, 0))
    return np.asarray(strip)


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw ``NUM_IMAGES`` images, under the same masks, after the first and every n-th epoch.

    Five rows: the image, what the network sees of it, its reconstruction, the reconstruction pasted
    into the masked blocks, and as a baseline the mean of the visible pixels in its place. With a
    feature target there is a sixth, the drawn features of the image, and the last two rows paste
    into that. ``reconstruction/epoch_N.png`` in the work dir, ``epoch_0.png`` before the first
    step, and the visualizer's back ends. The images are spread evenly over the training set, with
    their crops of epoch 0. What is not 8-bit RGB is stretched, band by band, from the 2nd to the
    98th percentile of each image.

    Args:
        interval: Epochs from one picture to the next, None for a twentieth of the run; the first
            and the last epoch have one.
        bands: Numbers of the channels to show as red, green and blue, or of one to show as grey;
            None for the first three, or for the first.

    Raises:
        ValueError: If ``interval`` is less than 1.
    """

    priority = 'LOWEST'  # after the checkpoint
    only_looks = True

    def __init__(self, interval: int | None, bands: Sequence[int] | None = None) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'interval={interval} must be at least 1')
        if bands is not None and (len(bands) not in (1, 3) or min(bands) < 0):
            raise ValueError(f'bands={bands} must be the numbers of three channels, or of one')
        self.interval, self.bands = interval, bands
        self._record = Record('the picture of reconstructions')
        self._batch: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the images once; a sample is the same whenever it is loaded."""
        # A sharded model computes in all processes or in none.
        if not is_main_process() and not is_sharded(runner.model.parameters()):
            return
        loader = runner.train_dataloader
        last = len(cast(Sized, loader.dataset)) - 1
        indices = np.linspace(0, last, min(NUM_IMAGES, last + 1), dtype=int)
        batch = cast(dict, loader.collate_fn([loader.dataset[int(index)] for index in indices]))
        self._batch, channels = batch, batch['image'].shape[1]
        if self.bands is not None and max(self.bands) >= channels:
            raise ValueError(f'bands={self.bands}, but the images have {channels} channels')
        if runner.iter == 0:
            self._picture(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw in the first process, if this epoch is one of those with a picture."""
        epoch = runner.epoch + 1
        if epoch == 1 or is_due(epoch, runner.max_epochs, self.interval):
            self._picture(runner, epoch)

    def _picture(self, runner: Runner, epoch: int) -> None:
        """Draw in the first process; the others compute their part of a sharded model."""
        if self._batch is None:
            return
        if self._record.off and not is_sharded(runner.model.parameters()):
            return
        with self._record.attempt():
            rows = self._rows(bare_model(runner.model), self._batch)
            if is_main_process() and not self._record.off:
                self._draw(runner, epoch, rows)

    def _draw(self, runner: Runner, epoch: int, rows: dict[str, np.ndarray]) -> None:
        """Write the picture to the work dir and the visualizer."""
        picture = picture_grid(rows)
        path = Path(runner.work_dir) / 'reconstruction' / f'epoch_{epoch}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
        runner.visualizer.add_image('reconstruction', picture, step=epoch)
        runner.logger.info(f'reconstruction of {len(rows["image"])} images: {path}')

    @torch.no_grad()
    def _rows(self, model: BaseModel, batch: dict) -> dict[str, np.ndarray]:
        """Captions and uint8 images (N, C, H, W), pixel values in [0, 255]."""
        training = model.training
        model.eval()
        try:
            # A graph of its own would be compiled for these few images.
            with torch.compiler.set_stance('force_eager'):
                outputs = cast(dict[str, Tensor], model.val_step(batch))
        finally:
            model.train(training)
        image, reconstruction = outputs['image'], outputs['reconstruction'].float()
        height, width = image.shape[-2:]
        masked = upsample_mask(outputs['mask'], (height, width)).unsqueeze(1)
        rows: dict[str, Tensor] = {'image': image, 'what the network sees': outputs['visible']}
        if 'target' in outputs:
            rows['target'] = image = outputs['target']
        rows['reconstruction'] = reconstruction
        rows['reconstruction in masked blocks'] = torch.lerp(image, reconstruction, masked)
        visible = (1 - masked).sum((2, 3), keepdim=True).clamp(min=1)
        mean = (image * (1 - masked)).sum((2, 3), keepdim=True) / visible
        rows['baseline: mean of the visible pixels'] = torch.lerp(image, mean, masked)
        preprocessor = cast(Algorithm, model).data_preprocessor
        plain = image.shape[1] == 3 and batch['image'].dtype == torch.uint8 and not self.bands
        if plain and getattr(preprocessor, 'scale', 'dtype') == 'dtype':
            return {name: preprocessor.denormalize(row).cpu().numpy() for name, row in rows.items()}
        bands = [*self.bands] if self.bands else slice(3 if image.shape[1] >= 3 else 1)
        chosen = {name: self._pixels(preprocessor, row)[:, bands] for name, row in rows.items()}
        return stretched(chosen)

    @staticmethod
    def _pixels(preprocessor: nn.Module, row: Tensor) -> np.ndarray:
        """Pixel values of normalised images, not rounded where the preprocessor is ours."""
        mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
        if mean is not None and std is not None:
            return (row.float() * std + mean).cpu().numpy()
        return cast(Any, preprocessor).denormalize(row).cpu().numpy().astype(float)


def stretched(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stretch every row by the percentiles of the first, the images; bands of one value stay.

    Args:
        rows: Arrays (N, C, H, W) of pixel values, by caption.

    Returns:
        uint8 arrays of the same shapes.
    """
    images = next(iter(rows.values()))
    low, high = np.percentile(images, PERCENTILES, axis=(2, 3), keepdims=True)
    flat = high - low < FLAT
    low, span = np.where(flat, 0, low), np.where(flat, PAPER, high - low)
    return {
        name: np.rint((row - low) / span * PAPER).clip(0, PAPER).astype(np.uint8)
        for name, row in rows.items()
    }


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Draw ``loss.png`` in the work dir at the end of the run and in between, and ``probe.png``.

    Each loss has its own axes, since the terms differ by orders of magnitude. The curves begin at
    the first iteration of the run, through every resume. The second shows what the hooks that are
    ``EpochProbe`` measured, where there are any.
    """

    priority = 'LOWEST'  # after the checkpoint
    only_looks = True

    def __init__(self) -> None:
        self._drawn = 0.0
        self._record = Record('the loss curve')

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Update the picture, but not after every short epoch."""
        if time.monotonic() - self._drawn > SECONDS_BETWEEN:
            self._draw(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the whole run."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        curves = loss_curves(runner.message_hub)
        if curves and not self._record.off:
            with self._record.attempt():
                draw_curves(curves, Path(runner.work_dir) / 'loss.png')
        probes = runner.message_hub.get_info('probes', {})
        if probes and not self._record.off:
            with self._record.attempt():
                draw_probes(probes, Path(runner.work_dir) / 'probe.png')
        self._drawn = time.monotonic()


def draw_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw one axes per curve, its points faint and their moving average over them.

    Args:
        curves: Values over iterations, by name.
        path: Where the PNG goes.
    """
    with stacked_axes([*curves], 'iteration', path) as axes:
        for axis, curve in zip(axes, curves.values(), strict=True):
            iterations, values = curve_points(curve)
            axis.plot(iterations, values, alpha=0.3, linewidth=1)
            axis.plot(iterations, _smoothed(values), color='C0', linewidth=1.5)


def draw_probes(probes: Mapping[str, tuple[list[int], list[float]]], path: Path) -> None:
    """Draw one axes per kind of probe; errors of masked pixels share theirs.

    Args:
        probes: Epochs and values, by name.
        path: Where the PNG goes.
    """
    kinds: dict[str, list[str]] = {}
    for name in probes:
        kinds.setdefault(name.rpartition('_')[2], []).append(name)
    labels = [', '.join(name.removeprefix('probe/') for name in names) for names in kinds.values()]
    with stacked_axes(labels, 'epoch', path) as axes:
        for axis, names in zip(axes, kinds.values(), strict=True):
            for name in names:
                axis.plot(*probes[name], marker='.', label=name.removeprefix('probe/'))
            if len(names) > 1:
                axis.legend()


@contextmanager
def stacked_axes(labels: Sequence[str], unit: str, path: Path) -> Iterator[np.ndarray]:
    """Axes below each other for each of ``labels``, over ``unit``; written as a PNG on exit."""
    # Here, since a run without this hook needs no matplotlib, which takes long to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4 * len(labels)), layout='constrained')
    axes = figure.subplots(len(labels), sharex=True, squeeze=False)[:, 0]
    yield axes
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel(unit)
    FigureCanvasAgg(figure).print_png(path)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Moving average over a twentieth of the curve, or five points; shorter at the ends."""
    window = np.ones(min(len(values), max(5, len(values) // 20)))
    count = np.convolve(np.ones(len(values)), window, mode='same')
    return np.convolve(values, window, mode='same') / count
