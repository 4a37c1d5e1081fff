"""A backbone that the command line has changed: the layer of its mask token, its image size.

``--cfg-options model.backbone.model_name=convnext_atto`` alone leaves ``mask_after`` at a layer
that the new network does not have, and a network with position embeddings is built for the size
that timm has for it. Both follow from the network and the images of the config.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from mmengine import Config

from a2mim.engine.config_edit import LOADERS, find_datasets
from a2mim.interfaces import TimmNetwork
from a2mim.models.timm_inspection import create_network, trace_geometry

# Read by TimmBackbone; what is left goes to timm.
OWN = (
    'type',
    'mask_after',
    'mask_token',
    'out_indices',
    'frozen_stages',
    'norm_eval',
    'grad_checkpointing',
    'init_cfg',
)


def fit_backbone(cfg: Config) -> list[str]:
    """Set ``img_size`` and ``mask_after`` where the backbone of ``cfg`` needs others.

    Returns:
        A line for the log for each of them.
    """
    backbone = (cfg.get('model') or {}).get('backbone')
    sizes, grid = image_and_grid(cfg)
    if not isinstance(backbone, dict) or sizes is None:
        return []
    ours = backbone.get('type') in ('TimmBackbone', 'a2mim.TimmBackbone')
    if not ours or backbone.get('out_indices') is not None:
        return []
    name = backbone.get('model_name')
    if not isinstance(name, str) or not timm.is_model(name):
        return []  # refused with near names where it is built
    notes = [fit_image_size(backbone, sizes), fit_mask_layer(backbone, sizes, grid)]
    return [note for note in notes if note]


def image_and_grid(cfg: Config) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(height, width) of the images in pixels and of their masks in blocks; None if not stated."""
    for loader in LOADERS:
        for dataset in find_datasets(cfg.get(loader)):
            mask = dataset.get('mask') or {}
            stated = [step.get('size') for step in dataset.get('pipeline') or []]
            stated = [mask.get('image_size'), *reversed(stated)]
            size = next(filter(None, map(pair_of, stated)), None)
            block = pair_of(mask.get('block_size'))
            if size is not None:
                grid = block and (size[0] // block[0], size[1] // block[1])
                return size, grid
    return None, None


def pair_of(value: object) -> tuple[int, int] | None:
    """(height, width) that ``value`` states as one number or two; None for anything else."""
    pair = [value, value] if isinstance(value, int) else value
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    height, width = pair
    fine = type(height) is int and type(width) is int and height > 0 and width > 0
    return (height, width) if fine else None


def fit_image_size(backbone: dict, sizes: tuple[int, int]) -> str | None:
    """Set ``img_size`` of a network that is built for one size of images."""
    name = backbone['model_name']
    known = timm.get_pretrained_cfg(name)
    stated = {'img_size', 'dynamic_img_size', 'strict_img_size'} & backbone.keys()
    if known is None or stated or not known.fixed_input_size or known.input_size[1:] == sizes:
        return None
    size: int | list[int] = sizes[0] if sizes[0] == sizes[1] else [*sizes]
    if blank_network({**backbone, 'img_size': size}) is None:
        return None
    backbone['img_size'] = size
    return (
        f'model.backbone.img_size={size}, the size of the images: {name} is built for '
        f'{known.input_size[1]}×{known.input_size[2]} pixels otherwise'
    )


def fit_mask_layer(
    backbone: dict, sizes: tuple[int, int], grid: tuple[int, int] | None
) -> str | None:
    """Set ``mask_after`` if the network does not have the layer of the config."""
    before, model = backbone.get('mask_after'), None
    if grid is not None and isinstance(before, str):
        model = blank_network(backbone)
    if grid is None or model is None or before in dict(model.named_modules()):
        return None
    layer = choose_mask_layer(model, (backbone.get('in_chans') or 3, *sizes), grid)
    if layer is None:
        return None
    name, backbone['mask_after'] = backbone['model_name'], layer
    return (
        f'model.backbone.mask_after={layer} chosen, since {name} has no {before!r}; '
        f'tools/analysis_tools/list_stages.py {name} lists the others'
    )


def choose_mask_layer(
    model: TimmNetwork, image_shape: tuple[int, int, int], grid: tuple[int, int]
) -> str | None:
    """The layer after which the configs of this package would mask ``model``.

    In a network whose stages have several strides, the last stage but the final one whose features
    tile the mask blocks (``layer3`` of a ResNet); in a ViT, the patch embedding.

    Args:
        model: A timm model, on the meta device or not.
        image_shape: (C, H, W) of its images.
        grid: (h, w) blocks of the mask.

    Returns:
        None if no layer fits.
    """
    names = [info['module'] for info in getattr(model, 'feature_info', [])]
    modules = dict(model.named_modules())
    stages = {name: modules[name] for name in names if name in modules}
    fitting, strides = [], set()
    try:
        geometry = trace_geometry(model, image_shape, stages)
    except ValueError:  # it takes no such image, which the checks of the backbone say
        return None
    for name in stages:
        try:
            layout = geometry.at(name)
        except ValueError:
            continue
        strides.add(layout.stride)
        if all(cells % blocks == 0 for cells, blocks in zip(layout.grid, grid, strict=True)):
            fitting.append(name)
    if len(strides) == 1 and fitting and 'patch_embed' in modules:
        return 'patch_embed'
    inner: Sequence[str] = [name for name in fitting if name != names[-1]] or fitting
    return inner[-1] if inner else None


def blank_network(backbone: dict) -> TimmNetwork | None:
    """The network of ``backbone`` on the meta device; None where timm builds none."""
    options: dict[str, Any] = {key: item for key, item in backbone.items() if key not in OWN}
    if not options.get('num_classes'):
        options.update(num_classes=0, global_pool=options.get('global_pool', ''))
    try:
        with torch.device('meta'):
            return create_network(options.pop('model_name'), **{**options, 'pretrained': False})
    except Exception:  # of any type; the error is raised where the model itself is built
        return None
