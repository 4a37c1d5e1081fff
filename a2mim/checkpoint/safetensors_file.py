"""A safetensors file with what its header says beside the tensors."""

from pathlib import Path

from safetensors import safe_open
from torch import Tensor


def load_safetensors(path: str | Path) -> dict[str, Tensor] | dict[str, dict]:
    """Tensors by name; where the header tells more than its format, ``state_dict`` and ``meta``."""
    with safe_open(path, framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = dict(file.metadata() or {})
    meta.pop('format', None)
    return {'state_dict': tensors, 'meta': meta} if meta else tensors
