"""Write a file as OpenMixup releases it, and import it into our models."""

from pathlib import Path

import torch
from torch import Tensor

from a2mim.weights.safe_load import load_file
from toy_run import load_tool


def write_released(state: dict[str, Tensor], path: Path) -> Path:
    """Write weights under published names as mmcv 1.x does, together with averaged copies."""
    vectors = {key: value for key, value in state.items() if value.ndim == 1}  # to save time
    raw = {f'ema_{key.replace(".", "_")}': value + 1 for key, value in vectors.items()}
    meta = dict(epoch=100, iter=62600, mmcv_version='1.7.2', seed=0, exp_name='a.py', hook_msgs={})
    torch.save(dict(meta=meta, state_dict={**state, **raw}, optimizer=dict(state={})), path)
    return path


def through_the_importer(state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """What the tool makes of such a file."""
    source, target = write_released(state, folder / 'a_full.pth'), folder / 'imported.safetensors'
    load_tool('model_converters/openmixup_to_a2mim').main([str(source), str(target)])
    return load_file(target)
