"""The operators that Mask R-CNN needs, from torchvision, where mmcv is not compiled.

mmcv looks its operators up in the extension ``mmcv._ext``, which an installation without a compiler
lacks. A module of that name implements NMS and RoIAlign with average pooling, forward and backward,
on CPU and GPU; any other operator raises an error when it is called.
"""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import torch
import torchvision
from torch import Tensor

EXTENSION = 'mmcv._ext'


class TorchvisionOperators(ModuleType):
    """The module that mmcv imports as its compiled extension."""

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
        """Indices (K,) of the boxes that are kept, by decreasing score.

        Args:
            boxes: (N, 4), as x1, y1, x2, y2.
            scores: (N,).
            iou_threshold: IoU above which the box with the lower score is suppressed.
            offset: 1 if the pixels at x2 and y2 belong to the box, else 0.
        """
        boxes, scores = _in_float32(boxes), _in_float32(scores)
        if offset:
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    @staticmethod
    def roi_align_forward(
        features: Tensor,
        rois: Tensor,
        output: Tensor,
        argmax_y: Tensor,
        argmax_x: Tensor,
        aligned_height: int,
        aligned_width: int,
        spatial_scale: float,
        sampling_ratio: int,
        pool_mode: int,
        aligned: bool,
    ) -> None:
        """Write the average of features (B, C, H, W) over rois (K, 5) to ``output`` (K, C, h, w).

        Raises:
            NotImplementedError: For max pooling.
        """
        if pool_mode != 1:
            raise NotImplementedError(_needs_compiling("roi_align with pool_mode='max'"))
        size = (aligned_height, aligned_width)
        pooled = torchvision.ops.roi_align(
            _in_float32(features), _in_float32(rois), size, spatial_scale, sampling_ratio, aligned
        )
        output.copy_(pooled)

    @staticmethod
    def roi_align_backward(
        grad_output: Tensor,
        rois: Tensor,
        argmax_y: Tensor,
        argmax_x: Tensor,
        grad_features: Tensor,
        aligned_height: int,
        aligned_width: int,
        spatial_scale: float,
        sampling_ratio: int,
        pool_mode: int,
        aligned: bool,
    ) -> None:
        """Write the gradient of the features (B, C, H, W) to ``grad_features``."""
        gradient = torch.ops.torchvision._roi_align_backward(
            _in_float32(grad_output),
            _in_float32(rois),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_features.shape,
            sampling_ratio,
            aligned,
        )
        grad_features.copy_(gradient)

    def __getattr__(self, name: str) -> Callable:
        # mmcv looks up every operator on import and calls it later, if at all.
        if name.startswith('__'):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(_needs_compiling(name))

        return refuse


def install() -> bool:
    """Install the module unless mmcv is compiled; return whether mmcv uses it.

    Raises:
        ImportError: If ``mmcv.ops`` was imported before, without its extension.
    """
    present = sys.modules.get(EXTENSION)
    if present is None and find_spec(EXTENSION) is None:
        if 'mmcv.ops' in sys.modules:
            raise ImportError('mmcv.ops was imported before a2mim.transfer; import that first')
        present = TorchvisionOperators(EXTENSION)
        present.__spec__ = ModuleSpec(EXTENSION, None)
        sys.modules[EXTENSION] = present
    return isinstance(present, TorchvisionOperators)


def _in_float32(tensor: Tensor) -> Tensor:
    # torchvision has no kernel for bfloat16, and none for float16 on the CPU.
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _needs_compiling(name: str) -> str:
    return (
        f'the operator {name} of mmcv is not compiled, and torchvision does not replace it; '
        'docs/compiled_operators.md says how to compile mmcv'
    )
