"""Take the weights: the backbone of a checkpoint in timm, and its features of five images."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from timm.models import load_checkpoint

from a2mim.analysis.images import PHOTOS, AnalysisImages
from a2mim.engine.progress import call_of, started_as_command
from a2mim.interfaces import Algorithm, TimmNetwork
from a2mim.weights.files import save_file
from a2mim.weights.load_model import load_model
from a2mim.weights.names import find_backbone
from a2mim.weights.recipe import create_timm_model, find_recipe
from a2mim.weights.safe_load import load_file

SHOWN = 5  # photographs
NEXT = """Next:
  your own images (docs/own_data.md):
    {pretrain}
  curves, spectra and probes of a run in one file:
    {report} {checkpoint} --out report.html"""
# A folder alone is a matter of the command.
ON_IMAGES = """python tools/train.py \\
        configs/own_data/a2mim_resnet50_1xb128-cos-auto_folder-224px.py \\
        --data-root /path/to/images"""


def take(checkpoint: Path, folder: Path, tell: Callable[[str], object]) -> None:
    """Write the backbone of a pre-training, load it with timm, and tell features of photographs.

    Raises:
        RuntimeError: If timm finds other weights than its model has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = load_file(checkpoint)
    trunk = find_backbone(content)
    file = folder / 'backbone.pth'
    save_file(trunk.state, file)
    name, options = cast(tuple[str, dict], find_recipe(content, trunk))
    recipe = name, {'num_classes': 0, 'global_pool': '', **options}
    model = create_timm_model(recipe, trunk.state, checkpoint).eval()
    load_checkpoint(model, str(file))
    options = recipe[1]
    given = ', '.join(f'{key}={value!r}' for key, value in options.items())
    tell(f"model = timm.create_model('{name}', {given},\n    checkpoint_path='{file}')")
    ours = cast(Algorithm, load_model(checkpoint))
    images = AnalysisImages(PHOTOS, SHOWN)
    pixels = images.pixels(ours.input_spec.image_size)
    with torch.no_grad():
        maps = cast(TimmNetwork, model).forward_features(
            ours.data_preprocessor(dict(image=pixels))['image']
        )  # (B, C, h, w)
    for name, vector in zip(images.names, maps.mean(dim=(2, 3)), strict=True):
        shown = ' '.join(f'{value:+.2f}' for value in vector[:6].tolist())
        tell(f'{name}: {len(vector)} features, {shown} …')
    tell(next_steps(checkpoint))


def next_steps(checkpoint: Path) -> str:
    """What one does after the quick start, as it was started."""
    as_command = started_as_command()
    pretrain = 'a2mim pretrain --data /path/to/images' if as_command else ON_IMAGES
    report = ' '.join(call_of('report'))
    return NEXT.format(pretrain=pretrain, report=report, checkpoint=checkpoint)
