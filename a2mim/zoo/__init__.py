"""The released weights: what there is, from where, and a model out of any file of weights.

Looking at the table imports no torch; ``a2mim.load_model`` does.
"""

from a2mim.zoo.configs import config_path
from a2mim.zoo.table import Entry, entries, find_entry, list_models

__all__ = ['Entry', 'config_path', 'entries', 'find_entry', 'list_models']
