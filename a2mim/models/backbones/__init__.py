"""Trunks: any timm model, with a mask token behind any of its modules."""

from a2mim.models.backbones.mask_token import MaskToken, insert_token
from a2mim.models.backbones.timm_backbone import TimmBackbone

__all__ = ['MaskToken', 'TimmBackbone', 'insert_token']
