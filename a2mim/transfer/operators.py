"""The operators that Mask R-CNN needs, from torchvision, where mmcv has none that are compiled.

mmcv looks its operators up in the extension ``mmcv._ext``, which pip installs without a compiler
leave out. A stand-in of that name answers for NMS and for RoIAlign with average pooling, forward
and backward, on CPU and GPU; any other operator says, when it is called, that it must be compiled.
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
    """What mmcv takes for its compiled extension."""

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
        """Indices (K,) of the boxes that are kept, by falling score.

        Args:
            boxes: (N, 4), left, top, right, bottom.
            scores: (N,)
            iou_threshold: Overlap from which the lower score goes.
            offset: 1 where right and bottom belong to the box.
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
        """Fill ``output`` (K, C, h, w) with the mean of features (B, C, H, W) in rois (K, 5).

        Raises:
            NotImplementedError: If the maximum is asked for.
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
        """Fill ``grad_features`` (B, C, H, W) from the gradient (K, C, h, w) of the output."""
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
        # mmcv looks up on import what it may call later.
        if name.startswith('__'):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(_needs_compiling(name))

        return refuse


def install() -> bool:
    """Put the stand-in where mmcv looks, unless something is there; return whether it is ours.

    Raises:
        ImportError: If ``mmcv.ops`` has been imported in vain before.
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
        f'the operator {name} of mmcv is not compiled here, and torchvision has none in its place; '
        'docs/compiled_operators.md says how to compile mmcv'
    )
