"""The shared head of a C4 detector: the last stage of a ResNet followed by a norm.

A config imports it by ``custom_imports``, with the root of the repository on the import path.
"""

from mmcv.cnn import build_norm_layer
from mmdet.models.backbones import ResNet
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class ResLayerExtraNorm(ResLayer):
    """MMDetection's ``ResLayer`` with one more norm on its output.

    The stage is pre-trained; the box head after it, trained at the learning rate of a detector,
    needs features of a known scale. The norm is not pre-trained.

    Args:
        depth: Layers of the ResNet.
        **kwargs: Arguments of ``ResLayer``.

    Shape:
        roi_features: (N, 1024, H, W) of N regions for a ResNet-50.
        returns: (N, 2048, H / 2, W / 2).

    Reference:
        He et al., MoCo, CVPR 2020 (https://arxiv.org/abs/1911.05722), appendix on detection.
    """

    def __init__(self, depth: int, **kwargs: object) -> None:
        super().__init__(depth, **kwargs)
        block, _ = ResNet.arch_settings[depth]
        _, self.extra_norm = build_norm_layer(self.norm_cfg, 64 * 2**self.stage * block.expansion)

    def forward(self, roi_features: Tensor) -> Tensor:
        """The stage, then the norm."""
        return self.extra_norm(super().forward(roi_features))
