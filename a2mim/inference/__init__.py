"""A trained model at work on single images: features and reconstructions, without a Runner."""

from a2mim.inference.features import features
from a2mim.inference.images import as_batch, fit_image
from a2mim.inference.reconstruct import reconstruct

__all__ = ['as_batch', 'features', 'fit_image', 'reconstruct']
