"""Nothing is shipped that cannot be built: every file below configs/."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine import Config
from torch import nn

from a2mim.engine.config_check import check_mask, check_names
from a2mim.registry import HOOKS, METRICS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from a2mim.weights.recipe import literal_config
from recipe_facts import differences, facts, goldens
from recipes import EXPERIMENTS, FILES, PUBLISHED, ROOT, built, name_of

GOLDENS = goldens()
HOOKS_OF_EVERY_RUN = ROOT / 'configs/_base_/every_run.py'
# Inherited by the base that fits pictures and checkpoints to a length that is chosen.
RUNTIME = ROOT / 'configs/openmixup/pretrain/_base_/default_runtime.py'
# Published files that accumulate without a word in their names. Their learning rates are meant for
# what they do, and names are a contract: the docstrings say it.
UNNAMED_ACCUMULATION = {
    'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400': 2,
    'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300': 2,
    'convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300': 2,
}


@pytest.mark.parametrize('path', EXPERIMENTS, ids=name_of)
def test_it_can_be_built_and_written_and_is_what_it_says(path, tmp_path):
    config = Config.fromfile(path)
    check_names(config)
    check_that_writing_keeps_it(config, tmp_path / 'written.py')
    model = built(config.model)
    check_that_the_optimizer_trains_all(config, model)
    check_that_parts_build(config)
    if 'mask' in config.train_dataloader.dataset:
        check_that_the_mask_fits(config, model)
    check_docstring(path)
    check_that_bases_inherit_hooks_alone(path)
    if name_of(path) in PUBLISHED:
        check_that_the_name_tells_batch_and_epochs(config, path)
        check_facts(config, model, name_of(path))


def check_that_writing_keeps_it(config: Config, written: Path) -> None:
    config.dump(written)
    again = Config.fromfile(written).to_dict()
    assert again == config.to_dict()
    # Read without running it, sequences are lists, as in JSON.
    literal = literal_config(written.read_text(encoding='utf-8'))
    assert literal == json.loads(json.dumps(again))


def check_that_the_optimizer_trains_all(config: Config, model: nn.Module) -> None:
    wrapper = dict(config.optim_wrapper)
    if wrapper.pop('type') == 'AmpOptimWrapper':
        wrapper.pop('dtype', None)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.pop('constructor'))
    paramwise_cfg = wrapper.pop('paramwise_cfg', None)
    wrapper['optimizer'] = {**wrapper['optimizer'], 'fused': False}  # needs real numbers
    if wrapper['optimizer']['type'] not in ('AdamW', 'SGD'):
        wrapper['optimizer'].pop('fused')
    optimizer = constructor(wrapper, paramwise_cfg)(model).optimizer
    trained = sum(len(group['params']) for group in optimizer.param_groups)
    assert trained == sum(parameter.requires_grad for parameter in model.parameters())
    assert len(optimizer.param_groups) <= 4 or 'layer_decay' in paramwise_cfg


def check_that_parts_build(config: Config) -> None:
    for hook in [*config.default_hooks.values(), *config.get('custom_hooks', [])]:
        HOOKS.build(hook)
    if config.get('val_evaluator'):
        METRICS.build(config.val_evaluator)
    for entry in dicts_below(config.to_dict()):
        for transform in entry.get('pipeline', []):
            TRANSFORMS.build(transform)
        for name in {'mask', 'erase'} & entry.keys():
            TRANSFORMS.build(entry[name])


def dicts_below(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
    if isinstance(node, dict | list | tuple):
        for item in node.values() if isinstance(node, dict) else node:
            yield from dicts_below(item)


def check_that_the_mask_fits(config: Config, model: nn.Module) -> None:
    """Blocks of the mask are whole features of the stage that it hides."""
    check_mask(model, TRANSFORMS.build(config.train_dataloader.dataset.mask))


def check_docstring(path: Path) -> None:
    """It holds the command that runs it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    assert re.search(r'^Run: (python|bash) ', docstring, re.MULTILINE)
    # The command is folded with a backslash, which Python drops with the end of the line.
    assert str(path.relative_to(ROOT)) in docstring


def check_that_bases_inherit_hooks_alone(path: Path) -> None:
    """A base inherits nothing but what belongs to runs: hooks, and their intervals."""
    for base in re.findall(r"'(\S*_base_/\S*)'", path.read_text(encoding='utf-8')):
        file = (path.parent / base).resolve()
        inherited = [(file.parent / name).resolve() for name in Config._get_base_files(str(file))]
        runs = [HOOKS_OF_EVERY_RUN] if 'runtime' in file.stem else [RUNTIME] * ('auto' in file.stem)
        assert inherited == runs


def check_that_the_name_tells_batch_and_epochs(config: Config, path: Path) -> None:
    found = re.search(r'_(?:(\d)xb|bs)(\d+)_', path.name)  # bs: on one GPU
    gpus, batch = int(found[1] or 1), int(found[2])
    accumulated = int(re.search(r'_accu(\d)_|$', path.name)[1] or 1)
    assert config.train_dataloader.batch_size == batch
    accumulated *= UNNAMED_ACCUMULATION.get(path.stem, 1)
    assert config.optim_wrapper.get('accumulative_counts', 1) == accumulated
    assert config.auto_scale_lr.base_batch_size == gpus * batch * accumulated
    assert 'finetune' in path.parts or config.auto_scale_lr.base_batch_size == 2048
    assert config.train_cfg.max_epochs == int(re.search(r'_ep(\d+)', path.name)[1])


def check_facts(config: Config, model: nn.Module, name: str) -> None:
    """Everything in it is as published; sources: tests/data/README.md, "Recipes"."""
    found = differences(GOLDENS[name], facts(name, config, model))
    assert not found, '\n'.join(['not as published:', *found])


def test_every_base_is_inherited_by_an_experiment_and_thereby_built():
    inherited = {
        (path.parent / base).resolve()
        for path in EXPERIMENTS
        for base in Config._get_base_files(str(path))
    }
    bases = {path for path in FILES if path not in EXPERIMENTS}
    # An experiment may inherit another one.
    assert inherited - {*EXPERIMENTS} == bases - {HOOKS_OF_EVERY_RUN}
