"""A pickle of numpy arrays in detectron2's names: it reads no other format of weights.

The file that is written holds plain data. Whoever reads it runs a pickle all the same.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from a2mim.weights.export.target import (
    Check,
    Shapes,
    Source,
    Target,
    compare_shapes,
    rename,
    shapes_of,
)
from a2mim.weights.names import Rules

# Blocks of the four stages; stride in the 3×3 convolution.
DEPTHS = {'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3), 'resnet152': (3, 8, 36, 3)}
RULES: Rules = (
    (r'^(?!layer)', 'stem.'),
    *((rf'^layer{i}\.', f'res{i + 1}.') for i in range(1, 5)),
    (r'\.bn(\d)\.', r'.conv\1.norm.'),
    (r'\.downsample\.0\.', '.shortcut.'),
    (r'\.downsample\.1\.', '.shortcut.norm.'),
)


class Detectron2Pickle(Target):
    """A bottleneck ResNet for ``MODEL.WEIGHTS``."""

    suffixes = ('.pkl',)

    def problem(self, source: Source) -> str | None:
        """Whether detectron2 builds a ResNet of this depth."""
        if source.base_name not in DEPTHS:
            return f'only {", ".join(DEPTHS)} are its ResNets, not {source.name}'
        report = compare_shapes(detectron2_shapes(source.base_name), _translate(source))
        return str(report) if report.rate < 1 or report.mismatched else None

    def write(self, source: Source, path: Path) -> None:
        """Write what detectron2 takes for weights of its own making under other names."""
        arrays = {key: tensor.numpy() for key, tensor in _translate(source).items()}
        content = dict(model=arrays, __author__='a2mim', matching_heuristics=True)
        path.write_bytes(pickle.dumps(content))

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Load it with detectron2, or hold it against the list of its names."""
        arrays = pickle.loads(path.read_bytes())['model']  # written a moment ago
        state = {key: torch.as_tensor(array) for key, array in arrays.items()}
        shapes = detectron2_shapes(source.base_name)
        try:
            import detectron2
            from detectron2.checkpoint import DetectionCheckpointer
            from detectron2.config import get_cfg
            from detectron2.layers import ShapeSpec
            from detectron2.modeling import build_resnet_backbone
        except ImportError:
            library = f'list of names of detectron2 for {source.base_name}'
            return Check(library, compare_shapes(shapes, state))
        config = get_cfg()
        config.MODEL.RESNETS.DEPTH = int(source.base_name.removeprefix('resnet'))
        config.MODEL.RESNETS.STRIDE_IN_1X1 = False
        config.MODEL.RESNETS.OUT_FEATURES = ['res5']
        model = build_resnet_backbone(config, ShapeSpec(channels=3))
        DetectionCheckpointer(model).load(str(path))
        report = compare_shapes(shapes_of(model), state)
        features = model.eval()(image)['res5']
        library = f'detectron2 {detectron2.__version__}'
        return Check(library, report, source.final_map(image), features)

    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """Options for its training script: weights, and images as these were trained on."""
        depth = source.base_name.removeprefix('resnet')
        return (
            f'MODEL.WEIGHTS {path} MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.STRIDE_IN_1X1 False',
            'INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[123.675,116.28,103.53]" '
            'MODEL.PIXEL_STD "[58.395,57.12,57.375]"',
        )


def detectron2_shapes(name: str) -> Shapes:
    """Names and shapes of detectron2's ResNet, from its depth alone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(place: str, out: int, channels: int, side: int) -> None:
        shapes[f'{place}.weight'] = (out, channels, side, side)
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{place}.norm.{part}'] = (out,)

    convolution('stem.conv1', 64, 3, 7)
    channels = 64
    for stage, depth in enumerate(DEPTHS[name]):
        inner, out = 64 * 2**stage, 256 * 2**stage
        for block in range(depth):
            place = f'res{stage + 2}.{block}'
            convolution(f'{place}.conv1', inner, channels, 1)
            convolution(f'{place}.conv2', inner, inner, 3)
            convolution(f'{place}.conv3', out, inner, 1)
            if block == 0:
                convolution(f'{place}.shortcut', out, channels, 1)
            channels = out
    return shapes


def _translate(source: Source) -> dict[str, Tensor]:
    return rename(source.trunk_state(), RULES)
