"""Necks: from the features of a trunk to an image, or to the pyramid of a detector."""

from a2mim.models.necks.pixel_shuffle import DepthwiseBlock, PixelShuffleDecoder
from a2mim.models.necks.rescale_pyramid import RescalePyramid

__all__ = ['DepthwiseBlock', 'PixelShuffleDecoder', 'RescalePyramid']
