"""A resumed run says how it differs from the one that was stopped, or is refused."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine import Config

from a2mim.engine.resume import RunRecordHook, describe


def runner(images: int = 10, batch_size: int = 4, **options: object) -> SimpleNamespace:
    loader = torch.utils.data.DataLoader(range(images), batch_size=batch_size)
    return SimpleNamespace(
        train_dataloader=loader,
        cfg=Config(dict(optim_wrapper=options)),
        logger=logging.getLogger('run record'),
        _resume=True,
        _load_from='epoch_1.pth',
        param_schedulers=None,
    )


def save(run: SimpleNamespace, checkpoint: dict) -> None:
    RunRecordHook().before_save_checkpoint(run, checkpoint)


def load(run: SimpleNamespace, checkpoint: dict) -> None:
    RunRecordHook().after_load_checkpoint(run, checkpoint)


@pytest.fixture
def checkpoint() -> dict:
    saved = dict(meta={})
    save(runner(), saved)
    return saved


def test_processes_batch_images_and_machine_are_written(checkpoint):
    run = checkpoint['meta']['run']
    assert run['batch'] == dict(processes=1, batch_size=4, accumulation=1)
    assert (run['images'], run['epoch_length']) == (10, 3)
    assert torch.__version__ in run['machine']


def test_the_same_run_goes_on_without_a_word(checkpoint, caplog):
    load(runner(), checkpoint)
    assert not caplog.records


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(images=11), r'10 images, and there are 11 now'),
        (dict(batch_size=2), r'global batch 2 = 1 × 2 × 1.*train_dataloader\.batch_size=4'),
        (dict(accumulative_counts=2), r'optim_wrapper\.accumulative_counts=1'),
    ],
)
def test_another_training_is_refused(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        load(runner(**options), checkpoint)


def test_another_version_of_torch_is_named(checkpoint, caplog):
    checkpoint['meta']['run']['machine'] = 'torch 1.0, cpu'
    load(runner(), checkpoint)
    assert 'stopped on torch 1.0, cpu: results agree, but not to the last bit' in caplog.text


def test_a_checkpoint_that_does_not_say_is_resumed_with_a_warning(caplog):
    load(runner(), dict(meta={}))
    assert 'does not say on how many processes' in caplog.text


def test_only_a_resumed_run_is_compared(checkpoint):
    started = runner(images=11)
    started._resume = False
    load(started, checkpoint)


def test_the_record_is_plain_data(checkpoint, tmp_path):
    torch.save(describe(runner()), tmp_path / 'record.pth')
    assert torch.load(tmp_path / 'record.pth', weights_only=True) == checkpoint['meta']['run']
