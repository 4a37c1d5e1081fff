"""Class activation maps with the package grad-cam, on any timm model.

Axes: B batch, C channels, L tokens, (h, w) positions, (H, W) pixels.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.attention import num_prefix, token_grid
from a2mim.analysis.latents import as_map
from a2mim.analysis.networks import Network
from a2mim.analysis.receptive_field import find_stage

METHODS = {
    'gradcam': 'GradCAM',
    'gradcam++': 'GradCAMPlusPlus',
    'xgradcam': 'XGradCAM',
    'eigencam': 'EigenCAM',
    'eigengradcam': 'EigenGradCAM',
    'layercam': 'LayerCAM',
}
WITHOUT_CLASSES = ('eigencam',)


def is_vit_like(model: nn.Module) -> bool:
    """Whether the model has blocks on patch tokens, and timm knows their grid."""
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    return grid is not None and hasattr(model, 'blocks')


def default_layer(model: nn.Module) -> str:
    """Path of the last norm layer with a gradient.

    Of a ViT it is the first norm of the last block: after the last attention, patches do not reach
    the class token and have no gradient. Of a CNN, the norms of shortcuts and of the classifier are
    skipped.

    Raises:
        ValueError: If there is no norm layer.
    """
    if is_vit_like(model):
        last = f'blocks.{len(cast(nn.ModuleList, model.blocks)) - 1}.norm1'
        if last in dict(model.named_modules()):
            return last
    norms = [
        name
        for name, module in model.named_modules()
        if 'Norm' in type(module).__name__ and not name.startswith(('head', 'fc_norm', 'norm_head'))
    ]
    main = [name for name in norms if 'downsample' not in name and 'shortcut' not in name]
    if not main:
        raise ValueError(f'{type(model).__name__} has no norm layer; name one with --target-layers')
    return main[-1]


def map_reader(
    model: nn.Module, image_size: tuple[int, int], num_extra: int | None = None
) -> Callable[[Tensor], Tensor]:
    """A function from the features of any layer of ``model`` to (B, C, h, w).

    ``num_extra`` replaces timm's number of tokens before the patches.
    """

    def read(features: Tensor) -> Tensor:
        if features.ndim != 3 or not is_vit_like(model):
            # A copy: a following ReLU may work in place.
            return as_map(model, features, image_size).clone()
        grid = token_grid(model, image_size)
        extra = num_prefix(model) if num_extra is None else num_extra
        if features.shape[1] != extra + grid[0] * grid[1]:
            raise ValueError(
                f'{features.shape[1]} tokens are not {extra} extra ones and {grid[0]}×{grid[1]} '
                'patches; give another --num-extra-tokens or target layer'
            )
        return features[:, extra:].transpose(1, 2).unflatten(2, grid).clone()

    return read


def grad_cam_package() -> ModuleType:
    """Import the optional package ``pytorch_grad_cam``."""
    try:
        return importlib.import_module('pytorch_grad_cam')
    except ImportError as error:
        raise ImportError(
            "class activation maps need the package grad-cam: pip install -e '.[analysis]'"
        ) from error


def check_categories(network: Network, method: str, categories: Sequence[int]) -> None:
    """Raise a ValueError if the network lacks the classes, or the method takes none."""
    if method in WITHOUT_CLASSES:
        if categories:
            raise ValueError(f'{method} takes no class; leave --target-category out')
        return
    if not network.num_classes:
        raise ValueError(
            f'{network.label} is a backbone without classes, which {method} needs; give a '
            'fine-tuned network, or --method eigencam'
        )
    for category in categories:
        if not 0 <= category < network.num_classes:
            raise ValueError(
                f'--target-category {category}: {network.label} has {network.num_classes} classes, '
                f'0 to {network.num_classes - 1}'
            )


def class_activation_map(
    network: Network,
    pixels: Tensor,
    method: str = 'gradcam',
    *,
    layers: Sequence[str] = (),
    categories: Sequence[int] = (),
    num_extra: int | None = None,
    **smooth: bool,
) -> tuple[np.ndarray, list[int]]:
    """Maps (maps, H, W) of one image for each category, from 0 to 1, and the categories.

    The maps of ``layers`` are averaged; the default is ``default_layer``. ``categories`` are class
    indices, by default the predicted one; ``smooth`` has grad-cam's eigen_smooth, aug_smooth.

    Raises:
        ValueError: See ``check_categories``; or if a layer has no map, or no gradient.
    """
    package = grad_cam_package()
    check_categories(network, method, categories)
    model, batch = network.model, network.normalize(pixels[None])
    paths = [find_stage(model, name) for name in layers] or [default_layer(model)]
    read, chosen = map_reader(model, network.image_size, num_extra), list(categories)
    if method not in WITHOUT_CLASSES:
        with torch.no_grad():
            chosen = chosen or [int(model(batch).argmax())]
        for category in chosen:
            _check_gradients(model, batch, paths, category)
    modules = [model.get_submodule(path) for path in paths]
    cam = getattr(package, METHODS[method])(model, modules, reshape_transform=read)
    try:
        # eigencam needs no class, but without a target grad-cam takes one from the output.
        found = [_one_map(cam, batch, category, smooth) for category in chosen or [0]]
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)
    return np.stack(found), chosen


def _one_map(
    cam: Callable[..., np.ndarray], batch: Tensor, category: int, smooth: Mapping[str, bool]
) -> np.ndarray:
    targets = importlib.import_module('pytorch_grad_cam.utils.model_targets')
    with torch.enable_grad():
        # A frozen backbone, as in a linear probe, has gradients only if its input has.
        shown = batch.detach().requires_grad_()
        return cam(shown, [targets.ClassifierOutputTarget(category)], **smooth)[0]


def _check_gradients(model: nn.Module, batch: Tensor, paths: Sequence[str], category: int) -> None:
    """Raise if a layer has no gradient: grad-cam would draw an empty map."""
    moved: set[str] = set()

    def watch(path: str, output: Tensor) -> None:
        output.register_hook(lambda grad: moved.add(path) if grad.any() else None)

    with ExitStack() as stack, torch.enable_grad():
        for path in paths:

            def hook(_module: nn.Module, _inputs: tuple, output: Tensor, path: str = path) -> None:
                watch(path, output)

            handle = model.get_submodule(path).register_forward_hook(hook)
            stack.callback(handle.remove)
        shown = batch.detach().requires_grad_()
        torch.autograd.grad(model(shown)[0, category], shown)
    for path in paths:
        if path not in moved:
            raise ValueError(
                f'{path!r} has no gradient for class {category}; give an earlier --target-layers'
            )


def draw_activation_maps(
    picture: np.ndarray, titles: Sequence[str], maps: Sequence[np.ndarray]
) -> Figure:
    """Draw the picture (H, W, 3) uint8, and every map over it, from 0 (blue) to 1 (red)."""
    figure = Figure(figsize=(2.6 * (1 + len(maps)) + 0.8, 3.0), layout='constrained')
    panels = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    panels[0].imshow(picture)
    panels[0].set_title('image', fontsize=9)
    height, width = picture.shape[:2]
    for panel, title, found in zip(panels[1:], titles, maps, strict=True):
        panel.imshow(picture)
        # The maps of all image sizes cover the whole picture.
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        shown = panel.imshow(found, cmap='jet', alpha=0.5, vmin=0, vmax=1, extent=extent)
        panel.set_title(title, fontsize=9)
    for panel in panels:
        panel.set_axis_off()
    figure.colorbar(shown, ax=panels.tolist(), label='activation, scaled to 0…1')
    return figure
