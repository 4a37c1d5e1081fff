"""The head of a C4 detector in Detectron2: stage 5 of a ResNet followed by a norm.

Not run here: Detectron2 was not available. The same head for MMDetection, which is tested, is
``det_mmdetection/res_layer_extra_norm.py``.
"""

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from torch import nn


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """Detectron2's ``Res5ROIHeads`` with one more norm after the stage, which is not pre-trained.

    Reference:
        He et al., MoCo, CVPR 2020 (https://arxiv.org/abs/1911.05722), appendix on detection.
    """

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """The stage with the norm, and its number of channels."""
        stage, channels = super()._build_res5_block(cfg)
        stage.add_module('norm', get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return stage, channels
