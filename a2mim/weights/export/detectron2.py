"""A pickle of numpy arrays in detectron2's names: it reads no other format of weights.

The file that is written holds plain data. Whoever reads it runs a pickle all the same.
"""

import importlib.metadata
import pickle
from pathlib import Path

import torch
from torch import Tensor

from a2mim.weights.export.target import (
    Check,
    Source,
    Target,
    UnreadError,
    other_library,
    shapes_of,
)
from a2mim.weights.families import FAMILIES
from a2mim.weights.fit import Shapes, compare
from a2mim.weights.recipe import RESNETS

# Stride in the 3×3 convolution.
DEPTHS = {name: blocks for name, blocks in RESNETS.items() if name != 'resnet200'}


class Detectron2Pickle(Target):
    """A bottleneck ResNet for ``MODEL.WEIGHTS``."""

    suffixes = ('.pkl',)

    def problem(self, source: Source) -> str | None:
        """Whether detectron2 builds a ResNet of this depth."""
        if source.base_name not in DEPTHS:
            return f'only {", ".join(DEPTHS)} are its ResNets, not {source.name}'
        report = compare(detectron2_shapes(source.base_name), _translate(source))
        return None if report.complete else str(report)

    def write(self, source: Source, path: Path) -> None:
        """Write what detectron2 takes for weights of its own making under other names."""
        arrays = {key: tensor.numpy() for key, tensor in _translate(source).items()}
        content = dict(model=arrays, __author__='a2mim', matching_heuristics=True)
        path.write_bytes(pickle.dumps(content))

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Load it with detectron2, or compare it with the list of its names."""
        arrays = pickle.loads(path.read_bytes())['model']  # written a moment ago
        state = {key: torch.as_tensor(array) for key, array in arrays.items()}
        shapes = detectron2_shapes(source.base_name)
        try:
            with other_library('detectron2'):
                # no package index has it, so that a type checker finds none of these
                from detectron2.checkpoint import DetectionCheckpointer  # pyright: ignore[reportMissingImports]
                from detectron2.config import get_cfg  # pyright: ignore[reportMissingImports]
                from detectron2.layers import ShapeSpec  # pyright: ignore[reportMissingImports]
                from detectron2.modeling import build_resnet_backbone  # pyright: ignore[reportMissingImports]
        except UnreadError as error:
            library = f'list of names of detectron2 for {source.base_name}'
            return Check(library, compare(shapes, state), problem=str(error))
        config = get_cfg()
        config.MODEL.RESNETS.DEPTH = int(source.base_name.removeprefix('resnet'))
        config.MODEL.RESNETS.STRIDE_IN_1X1 = False
        config.MODEL.RESNETS.OUT_FEATURES = ['res5']
        model = build_resnet_backbone(config, ShapeSpec(channels=3))
        DetectionCheckpointer(model).load(str(path))
        report = compare(shapes_of(model), state)
        features = model.eval()(image)['res5']
        library = f'detectron2 {importlib.metadata.version("detectron2")}'
        return Check(library, report, source.final_map(image), features)

    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """Options for its training script: weights, and images as these were trained on."""
        depth = source.base_name.removeprefix('resnet')
        mean, std = (','.join(map(str, values)) for values in source.normalization())
        return (
            f'MODEL.WEIGHTS {path} MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.STRIDE_IN_1X1 False',
            f'INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[{mean}]" MODEL.PIXEL_STD "[{std}]"',
        )


def detectron2_shapes(name: str) -> Shapes:
    """Names and shapes of detectron2's ResNet, from its depth alone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(layer: str, out: int, channels: int, side: int) -> None:
        shapes[f'{layer}.weight'] = (out, channels, side, side)
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{layer}.norm.{part}'] = (out,)

    convolution('stem.conv1', 64, 3, 7)
    channels = 64
    for stage, depth in enumerate(DEPTHS[name]):
        inner, out = 64 * 2**stage, 256 * 2**stage
        for block in range(depth):
            prefix = f'res{stage + 2}.{block}'
            convolution(f'{prefix}.conv1', inner, channels, 1)
            convolution(f'{prefix}.conv2', inner, inner, 3)
            convolution(f'{prefix}.conv3', out, inner, 1)
            if block == 0:
                convolution(f'{prefix}.shortcut', out, channels, 1)
            channels = out
    return shapes


def _translate(source: Source) -> dict[str, Tensor]:
    return FAMILIES['detectron2 resnet'].from_timm(source.backbone_state())
