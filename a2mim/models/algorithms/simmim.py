"""SimMIM: the baseline that hides nothing in the image and replaces features instead."""

from a2mim.models.algorithms.a2mim import A2MIM
from a2mim.registry import MODELS


@MODELS.register_module()
class SimMIM(A2MIM):
    """A2MIM with an untouched input image and a mask token that replaces hidden features.

    The target is always the image itself. The published class takes the network's input as the
    target, which is a constant on hidden pixels when that input was filled.

    Raises:
        ValueError: If the mask token adds to hidden features instead of replacing them. Nothing
            would then be hidden, since the input image shows the blocks to reconstruct.

    Reference:
        Xie et al., SimMIM, CVPR 2022 (https://arxiv.org/abs/2111.09886).
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, data_preprocessor: dict) -> None:
        super().__init__(backbone, neck, head, data_preprocessor, fill=None)
        if self.backbone.mask_token.mode != 'replace':
            raise ValueError(
                f"SimMIM needs mask_token=dict(mode='replace'), not "
                f'{self.backbone.mask_token.mode!r}: an added token leaves the hidden content '
                'in the features'
            )
