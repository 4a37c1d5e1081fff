"""Write weights so that the old file stays whole until the new one is complete and read back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from a2mim.checkpoint.atomic_file import CheckedFile
from a2mim.checkpoint.patient_writing import write_patiently


def save_file(
    content: dict[str, Tensor], path: str | Path, meta: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, as safetensors or for ``torch.load`` by the suffix of ``path``.

    With ``meta``, ``load_file`` returns the tensors as ``state_dict`` and it beside them.

    Raises:
        ValueError: If the suffix is another one.
        NotWrittenError: If the disk refuses.
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

    def write(file: CheckedFile) -> None:
        if path.suffix == '.safetensors':
            # Its own save_file lets nobody but the owner read the file.
            file.write(save_safetensors(content, {'format': 'pt', **(meta or {})}))
        else:
            torch.save(content if meta is None else dict(state_dict=content, meta={**meta}), file)

    needed = sum(tensor.nbytes for tensor in content.values())
    write_patiently(path, write, needed, advice='Make room, or write to another folder')
