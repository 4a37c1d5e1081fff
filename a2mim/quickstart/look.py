"""Pictures of what pre-training learns: held-out photographs, best and worst, epoch by epoch.

The baseline is the mean fill, the image's mean colour in masked blocks, which is also what the
network sees there. What a part found stands in ``result.json`` of its folder, and a part that has
it is not repeated.

Axes: N images, C channels, (H, W) pixels.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from a2mim.analysis.images import PHOTOS, AnalysisImages
from a2mim.analysis.networks import Network, around
from a2mim.analysis.reconstructions import MaskSetting, Reconstruction, reconstruct_images
from a2mim.analysis.spectra import reconstruction_spectra
from a2mim.engine.pictures import picture_grid
from a2mim.masking import upsample_mask
from a2mim.study.driver import ending, start
from a2mim.weights.files import write_atomically
from a2mim.weights.load_model import load_model
from a2mim.weights.released import config_path

CONFIG = 'quickstart/a2mim_resnet10t_1xb32-cos-6e_photos-64px'
RESULT = 'result.json'
NUM_IMAGES = 56  # all test patches of 112 pixels
MASKS = 4  # of each image
SHOWN = 4  # best, and as many worst
GAP = 12  # pixels


def look(folder: Path, pictures: Path, seed: int, tell: Callable[[str], object]) -> None:
    """Pre-train on photographs, then measure and draw what stands in ``folder``."""
    if noted(folder) is None:
        note(folder, lambda: pretrain(folder, seed))
        tell(f'pre-trained on photographs: {folder}')
    if noted(pictures) is None:
        pictures.mkdir(parents=True, exist_ok=True)
        note(pictures, lambda: evaluate(folder, pictures))
        tell(f'pictures: {pictures}')


def pretrain(folder: Path, seed: int) -> dict:
    """Train to the end, from the last checkpoint if there is one."""
    with start([str(config_path(CONFIG)), '--seed', str(seed)], folder) as runner:
        runner.train()
        return ending(runner)


def noted(folder: Path) -> dict | None:
    """What the part of ``folder`` found, once it is complete."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def note(folder: Path, part: Callable[[], dict]) -> None:
    """Do a part, and write what it found and how long it took."""
    begin = time.process_time()
    found = {**part(), 'cpu_seconds': round(time.process_time() - begin, 1)}
    text = json.dumps(found, indent=2).encode()
    write_atomically(folder / RESULT, lambda file: file.write(text), len(text))


def networks(folder: Path) -> list[Network]:
    """The network after some epochs, the first ones first."""
    found = sorted(folder.glob('epoch_*.pth'), key=lambda path: int(path.stem.split('_')[1]))
    return [
        around(load_model(path), f'after {path.stem.split("_")[1]} epochs', path.name)
        for path in found
    ]


def evaluate(folder: Path, pictures: Path) -> dict:
    """Errors on held-out images by method; writes the pictures."""
    trained = networks(folder)
    images = AnalysisImages(PHOTOS, NUM_IMAGES)
    spec = trained[-1].pretraining.input_spec
    settings = [
        MaskSetting(spec.ratio, int(np.min(spec.block_size)), seed) for seed in range(MASKS)
    ]
    by_network = [[reconstruct_images(one, images, mask) for mask in settings] for one in trained]
    shown = images.pixels(trained[0].image_size)
    similar = {
        one.label: np.concatenate(
            [ssim(shown, r.pasted, m) for r, m in zip(found, settings, strict=True)]
        )
        for one, found in zip(trained, by_network, strict=True)
    }
    last = by_network[-1]
    filled = [ssim(shown, r.visible, m) for r, m in zip(last, settings, strict=True)]
    errors = {
        one.label: torch.cat([r.errors for r in found]).numpy()
        for one, found in zip(trained, by_network, strict=True)
    }
    of_fill = torch.cat([r.mean_colour_errors for r in last]).numpy()
    draw(trained, [found[0] for found in by_network], shown, pictures / 'reconstructions.png')
    draw_spectra(trained, images, folder / 'spectra', pictures / 'spectra.png')
    table = {'mean fill': summary(of_fill, np.concatenate(filled))}
    table |= {label: summary(errors[label], similar[label]) for label in errors}
    better = {
        'l1': float((errors[trained[-1].label] < of_fill).mean()),
        'ssim': float((similar[trained[-1].label] > np.concatenate(filled)).mean()),
    }
    return dict(images=NUM_IMAGES, masks=MASKS, methods=table, share_better_than_fill=better)


def summary(errors: np.ndarray, similarity: np.ndarray) -> dict[str, float]:
    """Means over images."""
    return dict(l1=float(errors.mean()), ssim=float(similarity.mean()))


def ssim(images: Tensor, others: Tensor, setting: MaskSetting) -> np.ndarray:
    """(N,) structural similarity of uint8 (N, C, H, W), mean over masked pixels."""
    size = (images.shape[2], images.shape[3])
    masked = upsample_mask(setting.mask(size), size)[0].numpy() > 0  # (H, W)
    found = []
    for image, other in zip(images.numpy(), others.numpy(), strict=True):
        # With full=True the mean, and the value at every pixel.
        local = structural_similarity(image, other, channel_axis=0, data_range=255, full=True)[1]
        found.append(np.asarray(local)[:, masked].mean())
    return np.array(found)


def draw(trained: list[Network], found: list[Reconstruction], shown: Tensor, file: Path) -> None:
    """The images that gain most (left) and least (right) over the mean fill, epoch by epoch."""
    last = found[-1]
    # A flat image says nothing: the more contrasted half takes part.
    contrast = shown.float().std(dim=(2, 3)).mean(dim=1)
    gain = (last.mean_colour_errors - last.errors) / last.mean_colour_errors
    gain = torch.where(contrast >= contrast.median(), gain, torch.nan)
    order = [int(i) for i in gain.argsort(descending=True) if not gain[i].isnan()]
    halves = []
    for title, chosen in (('best', order[:SHOWN]), ('worst', order[-SHOWN:])):
        rows = {f'{title}: image': shown[chosen].numpy()}
        rows['what the network sees (mean fill)'] = last.visible[chosen].numpy()
        rows |= {
            one.label: result.pasted[chosen].numpy()
            for one, result in zip(trained, found, strict=True)
        }
        halves.append(picture_grid(rows))
    gap = np.full((len(halves[0]), GAP, 3), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate([halves[0], gap, halves[1]], axis=1)).save(file, optimize=True)


def draw_spectra(
    trained: list[Network], images: AnalysisImages, folder: Path, file: Path
) -> dict[str, list[float]]:
    """Draw the amplitudes in masked blocks relative to those of the image, by frequency."""
    found = reconstruction_spectra(trained, images, folder=folder)
    figure = Figure(figsize=(5.4, 3.6), layout='constrained')
    axes = figure.subplots()
    for label, one in found.items():
        axes.plot(one.frequencies, one.ratio, '.-', label=label)
    axes.axhline(0, color='0.4', linestyle='--', label='mean fill (no amplitude above 0)')
    axes.axhline(1, color='0.4', linestyle=':', label='the image')
    axes.set(xlabel='frequency (π per pixel)', ylabel='amplitude in masked blocks / image')
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    return {label: one.ratio.tolist() for label, one in found.items()}
