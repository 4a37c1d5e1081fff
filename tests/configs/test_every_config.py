"""Nothing is shipped that cannot be built: every file below configs/."""

import ast
import re
from collections.abc import Iterator

import pytest
import torch
from mmengine import Config

from a2mim.engine.config_check import check_names
from a2mim.registry import HOOKS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from recipes_on_disk import EXPERIMENTS, FILES, ROOT, name_of

MODEL_BASES = [path for path in FILES if path.parent.parent.name == 'models']
MASKED = [path for path in EXPERIMENTS if 'mask' in Config.fromfile(path).train_dataloader.dataset]
PUBLISHED = [path for path in EXPERIMENTS if 'openmixup' in path.parts]
# Published files that accumulate without a word in their names. Their learning rates are meant for
# what they do, and names are a contract: the docstrings say it.
UNNAMED_ACCUMULATION = {
    'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400': 2,
    'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300': 2,
    'convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300': 2,
}


every_experiment = pytest.mark.parametrize('path', EXPERIMENTS, ids=name_of)


def build_on_meta(model: dict) -> torch.nn.Module:
    """Shapes and names, without the numbers that would take most of the time."""
    with torch.device('meta'):
        return MODELS.build(model)


def dicts_below(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
    if isinstance(node, dict | list | tuple):
        for item in node.values() if isinstance(node, dict) else node:
            yield from dicts_below(item)


@every_experiment
def test_every_name_in_it_is_known(path):
    check_names(Config.fromfile(path))


@every_experiment
def test_it_survives_being_written_to_a_work_dir(path, tmp_path):
    config = Config.fromfile(path)
    config.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == config.to_dict()


@every_experiment
def test_model_and_optimiser_build(path):
    config = Config.fromfile(path)
    wrapper = dict(config.optim_wrapper)
    wrapper.pop('type')
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.pop('constructor'))
    paramwise_cfg = wrapper.pop('paramwise_cfg', None)
    wrapper['optimizer'] = {**wrapper['optimizer'], 'fused': False}  # needs real numbers
    if wrapper['optimizer']['type'] not in ('AdamW', 'SGD'):
        wrapper['optimizer'].pop('fused')
    model = build_on_meta(config.model)
    optimizer = constructor(wrapper, paramwise_cfg)(model).optimizer
    trained = sum(len(group['params']) for group in optimizer.param_groups)
    assert trained == sum(parameter.requires_grad for parameter in model.parameters())
    assert len(optimizer.param_groups) <= 4 or 'layer_decay' in paramwise_cfg


@every_experiment
def test_pipelines_metrics_and_hooks_build(path):
    config = Config.fromfile(path)
    for hook in [*config.default_hooks.values(), *config.get('custom_hooks', [])]:
        HOOKS.build(hook)
    if config.get('val_evaluator'):
        METRICS.build(config.val_evaluator)
    for entry in dicts_below(config.to_dict()):
        for transform in entry.get('pipeline', []):
            TRANSFORMS.build(transform)
        for name in {'mask', 'erase'} & entry.keys():
            TRANSFORMS.build(entry[name])


@pytest.mark.parametrize('path', MASKED, ids=name_of)
def test_the_mask_fits_the_stage_that_it_hides(path):
    config = Config.fromfile(path)
    blocks = TRANSFORMS.build(config.train_dataloader.dataset.mask)
    build_on_meta(config.model).backbone.check_mask_grid(blocks.image_size, blocks.grid)


@every_experiment
def test_it_says_what_to_expect_and_how_to_run_it(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    assert re.search(r'^Run: (python|bash) ', docstring, re.MULTILINE)
    # The command is folded with a backslash, which Python drops with the end of the line.
    assert str(path.relative_to(ROOT)) in docstring


@every_experiment
def test_inheritance_is_one_level_deep(path):
    bases = re.findall(r"'(\S*_base_\S*)'", path.read_text(encoding='utf-8'))
    for base in bases:
        assert '_base_ = ' not in (path.parent / base).read_text(encoding='utf-8')


@pytest.mark.parametrize('path', MODEL_BASES, ids=name_of)
def test_every_model_base_builds(path):
    build_on_meta(Config.fromfile(path).model)


@pytest.mark.parametrize('path', PUBLISHED, ids=name_of)
def test_the_name_tells_the_batch(path):
    config = Config.fromfile(path)
    found = re.search(r'_(?:(\d)xb|bs)(\d+)_', path.name)  # bs: on one GPU
    gpus, batch = int(found[1] or 1), int(found[2])
    accumulated = int(re.search(r'_accu(\d)_|$', path.name)[1] or 1)
    assert config.train_dataloader.batch_size == batch
    accumulated *= UNNAMED_ACCUMULATION.get(path.stem, 1)
    assert config.optim_wrapper.get('accumulative_counts', 1) == accumulated
    assert config.auto_scale_lr.base_batch_size == gpus * batch * accumulated
    assert 'finetune' in path.parts or config.auto_scale_lr.base_batch_size == 2048


@pytest.mark.parametrize('path', PUBLISHED, ids=name_of)
def test_the_name_tells_the_epochs(path):
    assert Config.fromfile(path).train_cfg.max_epochs == int(re.search(r'_ep(\d+)', path.name)[1])
