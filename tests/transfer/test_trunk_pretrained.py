"""Weights of a trunk for a backbone: all of them, or an error that says why."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.logging import MMLogger
from mmengine.model import initialize
from torch import nn

import a2mim.transfer  # noqa: F401
from a2mim.checkpoint import save_file


def trunk(name: str = 'test_resnet', seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=0, global_pool='')


def load(module: nn.Module, path: Path, **options: object) -> None:
    """As mmengine does for ``init_cfg``."""
    initialize(module, dict(type='a2mim.TrunkPretrained', checkpoint=str(path), **options))


def assert_taken(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_every_tensor_comes_from_the_file(tmp_path, suffix):
    state, path = trunk().state_dict(), tmp_path / f'trunk{suffix}'
    save_file(state, path)
    module = trunk(seed=2)
    load(module, path)
    assert_taken(module, state)


def test_a_whole_checkpoint_and_a_classifier_serve_as_well(tmp_path):
    state = trunk().state_dict()
    whole = {f'backbone.model.{name}': value for name, value in state.items()}
    torch.save(dict(state_dict={**whole, 'neck.weight': torch.zeros(3)}), tmp_path / 'whole.pth')
    torch.save({**state, 'fc.weight': torch.zeros(3, 96)}, tmp_path / 'classifier.pth')
    for name in ('whole.pth', 'classifier.pth'):
        module = trunk(seed=2)
        load(module, tmp_path / name)
        assert_taken(module, state)


def test_a_module_without_the_last_stage_leaves_it(tmp_path):
    state = trunk().state_dict()
    torch.save(state, tmp_path / 'trunk.pth')
    module = trunk(seed=2)
    del module.layer4
    load(module, tmp_path / 'trunk.pth')
    assert_taken(module, state)


def test_a_part_takes_its_stage_and_keeps_what_is_new(tmp_path):
    state = trunk().state_dict()
    torch.save(state, tmp_path / 'trunk.pth')
    head = nn.Module()
    head.layer4, head.extra_norm = trunk(seed=2).layer4, nn.BatchNorm2d(4)
    nn.init.constant_(head.extra_norm.weight, 3)
    load(head, tmp_path / 'trunk.pth', part='layer4')
    assert_taken(head.layer4, {name.removeprefix('layer4.'): v for name, v in state.items()})
    assert (head.extra_norm.weight == 3).all()


def test_the_log_says_how_much_was_taken(tmp_path, caplog):
    torch.save({**trunk().state_dict(), 'fc.bias': torch.zeros(3)}, tmp_path / 'trunk.pth')
    logger = MMLogger.get_instance('trunk_pretrained')
    logger.addHandler(caplog.handler)
    load(trunk(), tmp_path / 'trunk.pth')
    logger.removeHandler(caplog.handler)
    count = len(trunk().state_dict())
    assert caplog.messages[-1] == (
        f'ResNet: {count} of {count} tensors taken from {tmp_path}/trunk.pth; '
        '1 in the file not needed (fc.bias)'
    )


def without_one_layer() -> dict:
    state = trunk().state_dict()
    del state['layer3.0.conv1.weight']
    return state


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (lambda: trunk('test_convnext').state_dict(), 'only a part of ResNet can be taken'),
        (lambda: {'fc.weight': torch.zeros(10, 96)}, 'only a part of ResNet can be taken'),
        (without_one_layer, 'layer3.0.conv1.weight'),
        (
            lambda: {**trunk().state_dict(), 'layer3.9.conv1.weight': torch.zeros(3)},
            'layer3.9.conv1.weight',
        ),
        (lambda: dict(epoch=3), 'no weights found'),
    ],
    ids=['other family', 'classifier only', 'incomplete', 'deeper model', 'no weights'],
)
def test_what_is_not_the_whole_trunk_is_refused(tmp_path, content, reason):
    path = tmp_path / 'file.pth'
    torch.save(content(), path)
    module = trunk(seed=2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r'file.pth') as error:
        load(module, path)
    assert reason in str(error.value)
    assert_taken(module, before)


def test_a_truncated_file_is_refused(tmp_path):
    torch.save(trunk().state_dict(), tmp_path / 'trunk.pth')
    whole = (tmp_path / 'trunk.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r'half.pth .* is truncated'):
        load(trunk(), tmp_path / 'half.pth')


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere.pth does not exist'):
        load(trunk(), tmp_path / 'nowhere.pth')
