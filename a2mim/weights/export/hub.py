"""Upload an exported folder to the Hugging Face hub, with a model card."""

import inspect
import re
from pathlib import Path

from a2mim.registry import MODELS
from a2mim.version import __version__
from a2mim.weights.export.target import Source

CARD = """---
library_name: timm
pipeline_tag: image-feature-extraction
tags:
- timm
- transformers
- image-feature-extraction
- masked-image-modeling
- a2mim
---
# {repo}

`{name}` of timm, {parameters:.1f} M parameters, {classes}, written by a2mim {version}. Its images
have {channels} channels and {height}×{width} pixels; `config.json` has their mean and deviation.

```python
import timm

model = timm.create_model('hf-hub:{repo}', pretrained=True{without})
```

```python
import transformers

model = transformers.AutoModel.from_pretrained('{repo}')
```
{method}"""


def check_repo(target: str, repo: str) -> None:
    """Refuse what cannot be pushed before any work is done.

    Raises:
        ValueError: If ``repo`` is no USER/NAME, or ``target`` another library.
    """
    if target != 'huggingface':
        raise ValueError(f'--push {repo} needs --to huggingface, not {target}')
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*', repo):
        raise ValueError(f'--push {repo} must be USER/NAME, such as me/resnet50-a2mim')


def model_card(source: Source, repo: str) -> str:
    """The README of a repository: what the model is, and the lines that use it."""
    channels, height, width = source.input_shape
    number = sum(parameter.numel() for parameter in source.model.parameters())
    classes = source.num_classes
    return CARD.format(
        repo=repo,
        name=source.base_name,
        parameters=number / 1e6,
        classes=f'{classes} classes' if classes else 'without a classifier',
        version=__version__,
        channels=channels,
        height=height,
        width=width,
        without='' if classes else ', num_classes=0',
        method=_method(source.method),
    )


def _method(name: str | None) -> str:
    """A line about the algorithm of ``name``, with the reference of its docstring."""
    algorithm = MODELS.get(name) if name else None
    reference = ' '.join((inspect.getdoc(algorithm) or '').partition('Reference:')[2].split())
    return f'\nTrained as `{name}`: {reference}\n' if reference else ''


def push(source: Source, folder: Path, repo: str) -> str:
    """Write the model card into ``folder`` and upload it; a new repository is private.

    Returns:
        The address.

    Raises:
        ConnectionError: If the hub refuses or does not answer.
    """
    from huggingface_hub import HfApi

    (folder / 'README.md').write_text(model_card(source, repo), encoding='utf-8')
    api = HfApi()
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=f'Export by a2mim {__version__}'
        )
    except (OSError, ValueError) as error:  # those of huggingface_hub are OSErrors
        reason = ' '.join(str(error).split())
        raise ConnectionError(
            f'--push {repo}: the hub does not take it ({reason}); {folder} is complete. Log in '
            'with `hf auth login`, or upload the folder yourself'
        ) from error
    return f'https://huggingface.co/{repo}'
