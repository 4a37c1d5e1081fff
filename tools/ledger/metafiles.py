"""``model-index.yml`` and the ``metafile.yml`` files: the configs in the format of OpenMMLab."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import yaml
from recipe import Recipe

PAPERS = {
    'A2MIM': ('Architecture-Agnostic Masked Image Modeling', 'https://arxiv.org/abs/2205.13943'),
    'SimMIM': (
        'SimMIM: a Simple Framework for Masked Image Modeling',
        'https://arxiv.org/abs/2111.09886',
    ),
    'MAE': (
        'Masked Autoencoders Are Scalable Vision Learners',
        'https://arxiv.org/abs/2111.06377',
    ),
    'SparK': (
        'Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling',
        'https://arxiv.org/abs/2301.03580',
    ),
    'data2vec': (
        'data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language',
        'https://arxiv.org/abs/2202.03555',
    ),
    'MaskDistill': (
        'A Unified View of Masked Image Modeling',
        'https://arxiv.org/abs/2210.10615',
    ),
}
# By a part of the path; A2MIM is in the others.
OF_FOLDER = {
    '/simmim/': 'SimMIM',
    '/mae/': 'MAE',
    '/spark/': 'SparK',
    '/features/data2vec': 'data2vec',
    '/features/maskdistill': 'MaskDistill',
}
NOTE = '# Written by tools/ledger/make_ledger.py; change the configs instead.\n'


Costs = Mapping[str, Mapping[str, int]]


def metafiles(recipes: Sequence[Recipe], urls: Mapping[str, str], costs: Costs) -> dict[str, str]:
    """Content of all metafiles and of the index, by path relative to the repository.

    ``costs`` are FLOPs (multiply-accumulates) and parameters of configs by path.
    """
    folders: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        folders.setdefault(str(PurePosixPath(recipe.path).parent), []).append(recipe)
    files = {
        f'{folder}/metafile.yml': _dump(_metafile(inside, urls, costs))
        for folder, inside in folders.items()
    }
    return {**files, 'model-index.yml': _dump({'Import': sorted(files)})}


def _metafile(recipes: Sequence[Recipe], urls: Mapping[str, str], costs: Costs) -> dict:
    names = sorted({_collection(recipe) for recipe in recipes})
    collections = [
        {'Name': name, 'Paper': dict(zip(('Title', 'URL'), PAPERS[name], strict=True))}
        for name in names
    ]
    return {
        'Collections': collections,
        'Models': [_model(recipe, urls, costs) for recipe in recipes],
    }


def _model(recipe: Recipe, urls: Mapping[str, str], costs: Costs) -> dict:
    model = {
        'Name': recipe.name,
        'In Collection': _collection(recipe),
        'Config': recipe.path,
        'Metadata': {
            'Architecture': recipe.model,
            'Training Data': recipe.dataset,
            'Epochs': recipe.epochs,
            'Batch Size': recipe.batch,
            **costs.get(recipe.path, {}),
        },
        # A pre-trained model has an accuracy only after a fine-tuning config.
        'Results': [
            {
                'Task': 'Image Classification',
                'Dataset': recipe.dataset,
                'Metrics': {'Top 1 Accuracy': float(e.value)},
                ('Downstream' if recipe.pretrains else 'Start'): e.recipe,
                'Source': e.source,
            }
            for e in recipe.expectations
        ]
        or None,
    }
    if recipe.path in urls:
        model['Weights'] = urls[recipe.path]
    return model


def _collection(recipe: Recipe) -> str:
    return next((name for part, name in OF_FOLDER.items() if part in recipe.path), 'A2MIM')


def _dump(content: dict) -> str:
    return NOTE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
