"""What a network still knows of an image that is occluded, shuffled or corrupted."""

from a2mim.analysis.robustness.corruptions import CORRUPTIONS, corrupt
from a2mim.analysis.robustness.draw import draw_robustness
from a2mim.analysis.robustness.measure import (
    Level,
    check_measure,
    choose_measure,
    robustness_curves,
)
from a2mim.analysis.robustness.occlusion import drop_patches, patch_mask, patch_saliency
from a2mim.analysis.robustness.shuffling import shuffle_patches
from a2mim.analysis.robustness.studies import (
    corruption_levels,
    occlusion_levels,
    shuffle_levels,
)

__all__ = [
    'CORRUPTIONS',
    'Level',
    'check_measure',
    'choose_measure',
    'corrupt',
    'corruption_levels',
    'draw_robustness',
    'drop_patches',
    'occlusion_levels',
    'patch_mask',
    'patch_saliency',
    'robustness_curves',
    'shuffle_levels',
    'shuffle_patches',
]
