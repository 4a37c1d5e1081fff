"""Necks: from the features of a trunk to an image."""

from a2mim.models.necks.pixel_shuffle import DepthwiseBlock, PixelShuffleDecoder

__all__ = ['DepthwiseBlock', 'PixelShuffleDecoder']
