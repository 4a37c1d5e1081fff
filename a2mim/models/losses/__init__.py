"""Losses: element-wise criteria, losses in frequency space, and losses of classification."""

from a2mim.models.losses import classification
from a2mim.models.losses.criteria import (
    BalancedL1Loss,
    CharbonnierLoss,
    Criterion,
    HuberLoss,
    L1Loss,
    MSELoss,
)
from a2mim.models.losses.focal_criteria import FocalL1Loss, FocalMSELoss
from a2mim.models.losses.focal_frequency_loss import FocalFrequencyLoss
from a2mim.models.losses.spectrum_loss import SpectrumLoss

__all__ = [
    'BalancedL1Loss',
    'CharbonnierLoss',
    'Criterion',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'FocalMSELoss',
    'HuberLoss',
    'L1Loss',
    'MSELoss',
    'SpectrumLoss',
    'classification',
]
