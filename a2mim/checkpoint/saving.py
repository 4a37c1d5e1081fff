"""Write a checkpoint so that the old file stays whole until the new one is complete."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor


def save_file(
    content: dict[str, Tensor], path: str | Path, meta: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, as safetensors or for ``torch.load`` by the suffix of ``path``.

    With ``meta``, ``load_file`` returns the tensors as ``state_dict`` and it beside them.

    Raises:
        ValueError: If the suffix is another one.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise ValueError(f'{path} must end in .pth, .pt or .safetensors')
    # safetensors takes no two tensors that share memory.
    content = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in content.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        if path.suffix == '.safetensors':
            # Its own save_file lets nobody but the owner read the file.
            unfinished.write_bytes(save_safetensors(content, {'format': 'pt', **(meta or {})}))
        else:
            whole = content if meta is None else {'state_dict': content, 'meta': dict(meta)}
            torch.save(whole, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
