"""Models: algorithms, and the parts that a config names; importing this registers them all."""

from a2mim.models.a2mim import A2MIM, SimMIM
from a2mim.models.classifier import ImageClassifier, StageProbe
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.decoder import PixelShuffleDecoder
from a2mim.models.features import FeatureMIM
from a2mim.models.losses import (
    BalancedL1Loss,
    CharbonnierLoss,
    FocalL1Loss,
    FocalMSELoss,
    HuberLoss,
    L1Loss,
    MSELoss,
)
from a2mim.models.mae import MAE, MAEDecoder
from a2mim.models.mask_token import MaskToken
from a2mim.models.mim_head import MIMHead
from a2mim.models.multi_scale import RescalePyramid
from a2mim.models.spark import SparK, UNetDecoder
from a2mim.models.sparse_encoder import SparseBackbone
from a2mim.models.spectral_losses import FocalFrequencyLoss, SpectrumLoss
from a2mim.models.targets import HOGTarget, LBPTarget, MaskFeatTarget
from a2mim.models.timm_backbone import TimmBackbone

__all__ = [
    'A2MIM',
    'MAE',
    'BalancedL1Loss',
    'CharbonnierLoss',
    'FeatureMIM',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'FocalMSELoss',
    'HOGTarget',
    'HuberLoss',
    'ImageClassifier',
    'ImagePreprocessor',
    'L1Loss',
    'LBPTarget',
    'MAEDecoder',
    'MIMHead',
    'MSELoss',
    'MaskFeatTarget',
    'MaskToken',
    'PixelShuffleDecoder',
    'RescalePyramid',
    'SimMIM',
    'SparK',
    'SparseBackbone',
    'SpectrumLoss',
    'StageProbe',
    'TimmBackbone',
    'UNetDecoder',
]
