"""How a run multiplies float32 matrices: in TF32 or in full, as its config or checkpoint states."""

from pathlib import Path

import torch
from mmengine import Config
from mmengine.device import get_device

from a2mim.weights.recipe import literal_config
from a2mim.weights.safe_load import peek

MATMUL = 'float32_matmul'
MATMULS = {'high': 'TF32, 10 bits of fraction', 'highest': 'full float32'}


def adopt_matmul(cfg: Config, checkpoint: str) -> None:
    """Multiply as the run of ``checkpoint`` did, unless ``cfg`` states how."""
    before = literal_config((peek(Path(checkpoint)).get('meta') or {}).get('cfg') or '') or {}
    stated = (before.get('env_cfg') or {}).get(MATMUL)
    if stated is not None:
        cfg.env_cfg = {MATMUL: stated, **(cfg.get('env_cfg') or {})}


def state_matmul(cfg: Config) -> str | None:
    """Write into ``cfg`` how float32 matrices are multiplied: in TF32 if nothing else is stated.

    A run that is resumed without a statement is older than this entry, and had full float32.

    Returns:
        A line for the log, on a GPU.

    Raises:
        ValueError: If the entry is none of ``MATMULS``.
    """
    default = 'highest' if cfg.get('resume') else 'high'
    cfg.env_cfg = {MATMUL: default, **(cfg.get('env_cfg') or {})}
    choice = cfg.env_cfg[MATMUL]
    if choice not in [*MATMULS]:
        raise ValueError(f'env_cfg.{MATMUL}={choice!r} must be one of {[*MATMULS]}')
    if get_device() != 'cuda':
        return None
    return f'float32 matrix products: {MATMULS[choice]} (env_cfg.{MATMUL}={choice!r})'


def set_matmul(choice: str) -> None:
    """Multiply float32 matrices so from here on, in this process.

    On CUDA alone: a CPU with units for TF32 would otherwise compute other numbers than one without.
    Convolutions stay as torch has them by default, in TF32.
    """
    if get_device() == 'cuda':
        torch.set_float32_matmul_precision(choice)
