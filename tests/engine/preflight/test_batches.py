"""How images are split, and a batch that costs the run nothing."""

import pytest
import torch

from a2mim.engine import preflight


def test_the_split_is_stated(build_runner):
    line = preflight.check_batches(build_runner())
    assert line.startswith('batches: 12 images, 1 process(es) with 4 each make 3 iterations')


def test_a_loader_that_makes_no_batch_is_refused(build_runner):
    runner = build_runner(train_dataloader__batch_size=13, train_dataloader__drop_last=True)
    with pytest.raises(ValueError, match=r'12 images, 1 process.* with 13 each make no step'):
        preflight.check_batches(runner)


def test_fewer_images_than_processes_are_refused(build_runner, monkeypatch):
    monkeypatch.setattr(preflight, 'get_world_size', lambda: 16)
    with pytest.raises(ValueError, match='fewer processes'):
        preflight.check_batches(build_runner())


def test_an_example_batch_is_like_those_of_the_loader(build_runner):
    loader = build_runner().train_dataloader
    example, loaded = preflight.example_batch(loader), next(iter(loader))
    assert example.keys() == loaded.keys()
    for name, value in loaded.items():
        assert (example[name].shape, example[name].dtype) == (value.shape, value.dtype)
    assert len(preflight.example_batch(loader, size=1)['image']) == 1


def test_an_example_batch_leaves_the_order_alone(build_runner):
    loader = build_runner().train_dataloader
    before = [batch['image'] for batch in loader]
    preflight.example_batch(loader)
    after = [batch['image'] for batch in loader]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
