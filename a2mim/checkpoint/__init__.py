"""Weights in files: safe reading, atomic writing, names of the published system, match reports."""

from a2mim.checkpoint.key_maps import to_a2mim, to_timm
from a2mim.checkpoint.literal_config import literal_config
from a2mim.checkpoint.loading import load_file, safe_torch_load
from a2mim.checkpoint.matching import LoadReport, compare, load_weights
from a2mim.checkpoint.recipe import find_recipe
from a2mim.checkpoint.saving import save_file
from a2mim.checkpoint.trunk import Trunk, find_trunk, trunk_state

__all__ = [
    'LoadReport',
    'Trunk',
    'compare',
    'find_recipe',
    'find_trunk',
    'literal_config',
    'load_file',
    'load_weights',
    'safe_torch_load',
    'save_file',
    'to_a2mim',
    'to_timm',
    'trunk_state',
]
