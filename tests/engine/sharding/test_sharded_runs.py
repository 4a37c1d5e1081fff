"""A sharded run is the run of DDP: same losses, same weights, same files."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from a2mim.registry import MODELS
from toy_run import load_tool, read_scalars, write_images
from two_processes import SHARDED, finish, pretraining, torchrun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without GPU'),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """Two runs of two epochs, one with DDP and one sharded."""
    root = tmp_path_factory.mktemp('sharded')
    write_images(root / 'train', 4)
    write_images(root / 'val', 2)
    pretraining(root).dump(root / 'toy.py')
    options = ['--cfg-options', SHARDED]
    finish(torchrun(root, 'toy.py', '--work-dir', 'copied'))
    finish(torchrun(root, 'toy.py', '--work-dir', 'sharded', *options))
    return root


def checkpoint(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def losses(work_dir: Path) -> list[float]:
    return [line['loss'] for line in read_scalars(work_dir) if 'loss' in line]


def norms(work_dir: Path) -> list[float]:
    return [line['grad_norm'] for line in read_scalars(work_dir) if 'grad_norm' in line]


def test_losses_and_gradient_norms_are_those_of_ddp(root):
    assert len(losses(root / 'copied')) == 12
    assert losses(root / 'sharded') == pytest.approx(losses(root / 'copied'), rel=1e-4)
    assert norms(root / 'sharded') == pytest.approx(norms(root / 'copied'), rel=1e-3)


def test_the_file_has_the_entries_of_ddp_in_the_same_order_and_shape(root):
    sharded, copied = (checkpoint(root / n / 'epoch_2.pth') for n in ('sharded', 'copied'))
    assert [*sharded['state_dict']] == [*copied['state_dict']]
    for name, tensor in copied['state_dict'].items():
        assert type(sharded['state_dict'][name]) is torch.Tensor
        torch.testing.assert_close(sharded['state_dict'][name], tensor, rtol=1e-3, atol=1e-4)
    assert sharded['optimizer']['param_groups'] == copied['optimizer']['param_groups']
    assert [*sharded['optimizer']['state']] == [*copied['optimizer']['state']]
    for index, moments in copied['optimizer']['state'].items():
        found = sharded['optimizer']['state'][index]
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in moments.items()
        }
        torch.testing.assert_close(found['exp_avg'], moments['exp_avg'], rtol=1e-2, atol=1e-6)


def test_a_resumed_sharded_run_is_exact(root):
    options = ['--resume', 'sharded/epoch_1.pth', '--cfg-options', SHARDED]
    finish(torchrun(root, 'toy.py', '--work-dir', 'resumed', *options))
    assert losses(root / 'resumed') == losses(root / 'sharded')[6:]
    resumed, whole = (checkpoint(root / n / 'epoch_2.pth') for n in ('resumed', 'sharded'))
    for name, tensor in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], tensor), name
    for index, moments in whole['optimizer']['state'].items():
        for name, value in moments.items():
            assert torch.equal(resumed['optimizer']['state'][index][name], value)


def test_the_file_loads_strictly_in_one_process(root):
    with DefaultScope.overwrite_default_scope('a2mim'):
        model = MODELS.build(pretraining(root).model)
    model.load_state_dict(checkpoint(root / 'sharded/epoch_2.pth')['state_dict'], strict=True)


def test_one_process_continues_what_two_shared(root, monkeypatch):
    monkeypatch.chdir(root)
    options = ['--resume', 'sharded/epoch_1.pth', '--cfg-options', 'train_dataloader.batch_size=2']
    Path('sharded/toy.py').rename('sharded/toy.txt')  # which has half the batch per process
    load_tool('train').main(['toy.py', '--work-dir', 'alone', *options])
    Path('sharded/toy.txt').rename('sharded/toy.py')
    assert losses(root / 'alone') == pytest.approx(losses(root / 'copied')[6:], rel=1e-3)


def test_features_are_measured_and_pictures_drawn_once_by_all(root):
    for work_dir in (root / 'copied', root / 'sharded'):
        probes = [line for line in read_scalars(work_dir) if 'probe/knn_top1' in line]
        assert [line['step'] for line in probes] == [0, 1, 2]
        pictures = sorted(path.name for path in (work_dir / 'reconstruction').iterdir())
        assert pictures == [f'epoch_{epoch}.png' for epoch in range(3)]
