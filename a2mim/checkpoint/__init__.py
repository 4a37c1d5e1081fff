"""Weights in files: safe reading, atomic writing, names of the published system, match reports."""

from a2mim.checkpoint.atomic_file import (
    CheckedFile,
    remove_partials,
    replace_link,
    write_atomically,
)
from a2mim.checkpoint.classes import check_classes, without_other_classes
from a2mim.checkpoint.fitting import check_parts, fit_model
from a2mim.checkpoint.importing import Imported, import_weights, is_ours, to_a2mim
from a2mim.checkpoint.integrity import check_members, peek
from a2mim.checkpoint.key_maps import to_timm
from a2mim.checkpoint.literal_config import literal_config
from a2mim.checkpoint.loading import load_file, safe_torch_load
from a2mim.checkpoint.matching import LoadReport, compare, load_weights
from a2mim.checkpoint.patient_writing import NotWrittenError, write_patiently
from a2mim.checkpoint.positions import fit_positions
from a2mim.checkpoint.recipe import find_recipe
from a2mim.checkpoint.saving import save_file
from a2mim.checkpoint.trunk import Trunk, find_trunk, tensors_in, trunk_state, unwrap
from a2mim.checkpoint.trust import add_trust_option, trust_checkpoints

__all__ = [
    'CheckedFile',
    'Imported',
    'LoadReport',
    'NotWrittenError',
    'Trunk',
    'add_trust_option',
    'check_classes',
    'check_members',
    'check_parts',
    'compare',
    'find_recipe',
    'find_trunk',
    'fit_model',
    'fit_positions',
    'import_weights',
    'is_ours',
    'literal_config',
    'load_file',
    'load_weights',
    'peek',
    'remove_partials',
    'replace_link',
    'safe_torch_load',
    'save_file',
    'tensors_in',
    'to_a2mim',
    'to_timm',
    'trunk_state',
    'trust_checkpoints',
    'unwrap',
    'without_other_classes',
    'write_atomically',
    'write_patiently',
]
