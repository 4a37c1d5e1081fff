"""The preprocessor normalises on the device, agrees with the published numbers, and mixes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from a2mim.models import data_preprocessor
from a2mim.models.data_preprocessor import ImagePreprocessor
from host_sync import no_host_sync

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def test_normalises_grey_levels_channel_by_channel():
    levels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    image = ImagePreprocessor(MEAN, STD)(dict(image=levels))['image']
    expected = (levels / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected)


def test_denormalise_restores_every_grey_level():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    preprocessor = ImagePreprocessor(MEAN, STD)
    assert torch.equal(preprocessor.denormalize(preprocessor.normalize(levels)), levels)


def test_leaves_the_batch_of_the_loader_untouched():
    batch = dict(image=torch.zeros(1, 3, 4, 4, dtype=torch.uint8), mask=torch.ones(1, 2, 2))
    ImagePreprocessor(MEAN, STD)(batch)
    assert batch['image'].dtype == torch.uint8


def test_a_note_of_the_workers_stays_on_the_host():
    batch = dict(image=torch.zeros(1, 3, 4, 4, dtype=torch.uint8), unreadable=torch.tensor([-1]))
    assert set(ImagePreprocessor(MEAN, STD)(batch)) == {'image'}
    assert 'unreadable' in batch


def test_writes_the_layout_that_the_backbone_asked_for():
    preprocessor = ImagePreprocessor(MEAN, STD)
    preprocessor.channels_last = True
    image = preprocessor(dict(image=torch.zeros(2, 3, 4, 4, dtype=torch.uint8)))['image']
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_another_number_of_channels_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r'images have 1 channels.*have 3'):
        ImagePreprocessor(MEAN, STD)(dict(image=torch.zeros(1, 1, 4, 4, dtype=torch.uint8)))


@pytest.mark.parametrize('std', [[1.0, 1.0], [1.0, 0.0, 1.0]])
def test_statistics_that_do_not_fit_are_refused(std):
    with pytest.raises(ValueError, match='one entry per channel'):
        ImagePreprocessor(MEAN, std)


@pytest.mark.parametrize('size', [4, 5])
def test_mixup_keeps_the_batch_and_gives_probabilities_also_for_an_odd_batch(size):
    preprocessor = ImagePreprocessor(
        MEAN, STD, mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=7)
    )
    batch = dict(
        image=torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8), label=torch.arange(size)
    )
    mixed = preprocessor(batch, training=True)
    assert mixed['image'].shape == (size, 3, 8, 8)
    torch.testing.assert_close(mixed['label'].sum(dim=1), torch.ones(size))


def test_validation_is_not_mixed():
    preprocessor = ImagePreprocessor(MEAN, STD, mixup=dict(mixup_alpha=0.8, num_classes=7))
    label = torch.arange(4)
    batch = dict(image=torch.zeros(4, 3, 8, 8, dtype=torch.uint8), label=label)
    assert torch.equal(preprocessor(batch, training=False)['label'], label)


def erasable(size: int = 16) -> dict:
    return dict(
        image=torch.full((3, 3, size, size), 200, dtype=torch.uint8),
        label=torch.arange(3),
        erase=torch.tensor([[2, 3, 5, 4], [0, 0, 0, 0], [0, 0, 16, 15]]),
    )


def test_boxes_are_filled_with_noise_after_normalising_and_nothing_else_is():
    preprocessor = ImagePreprocessor(MEAN, STD)
    batch = erasable()
    plain = preprocessor(dict(image=batch['image']))['image']
    changed = preprocessor(batch, training=True)['image'] != plain
    expected = torch.zeros(3, 3, 16, 16, dtype=torch.bool)
    expected[0, :, 2:7, 3:7] = True
    expected[2, :, :, :15] = True
    assert torch.equal(changed, expected)


def test_the_noise_is_standard_normal_and_differs_from_pixel_to_pixel():
    batch = dict(
        image=torch.zeros(2, 3, 100, 100, dtype=torch.uint8),
        label=torch.arange(2),
        erase=torch.tensor([[0, 0, 100, 100]] * 2),
    )
    noise = ImagePreprocessor(MEAN, STD)(batch, training=True)['image']
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert noise.unique().numel() > 0.9 * noise.numel()


def test_the_box_leaves_the_batch_whether_or_not_it_is_used():
    preprocessor = ImagePreprocessor(MEAN, STD)
    assert preprocessor(erasable(), training=True).keys() == {'image', 'label'}
    evaluated = preprocessor(erasable())
    assert evaluated.keys() == {'image', 'label'}
    assert torch.equal(evaluated['image'], preprocessor(dict(image=erasable()['image']))['image'])


def test_images_are_erased_before_they_are_mixed(monkeypatch):
    preprocessor = ImagePreprocessor(MEAN, STD, mixup=dict(mixup_alpha=1.0, num_classes=3))
    monkeypatch.setattr(preprocessor.mixup, '_params_per_batch', lambda: (0.5, False))
    monkeypatch.setattr(torch, 'randn_like', lambda image: torch.full_like(image, 100.0))
    batch = dict(
        image=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        label=torch.arange(2),
        erase=torch.tensor([[0, 0, 2, 2], [0, 0, 0, 0]]),
    )
    levels = preprocessor.normalize(batch['image'])[0, 0, 0, 0]
    mixed = preprocessor(batch, training=True)['image']
    assert mixed[1, 0, 0, 0].item() == pytest.approx(50 + levels.item() / 2)


def test_erasing_never_waits_for_the_device_and_keeps_the_layout():
    preprocessor = ImagePreprocessor(MEAN, STD)
    preprocessor.channels_last = True
    with no_host_sync():
        image = preprocessor(erasable(), training=True)['image']
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_on_a_gpu_a_batch_is_copied_on_a_stream_of_its_own(monkeypatch):
    events = []

    class Stream:
        def wait_stream(self, other: object) -> None:
            events.append(('computing waits for', other))

    @contextmanager
    def stream(which: object) -> Iterator[None]:
        events.append(('begin', which))
        yield
        events.append(('end', which))

    copying, computing = 'copying', Stream()
    monkeypatch.setattr(data_preprocessor, 'copy_stream', lambda device: copying)
    monkeypatch.setattr(torch.cuda, 'stream', stream)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: computing)
    monkeypatch.setattr(Tensor, 'record_stream', lambda self, by: events.append(('read by', by)))
    monkeypatch.setattr(ImagePreprocessor, 'device', torch.device('cuda', 0))
    monkeypatch.setattr(
        ImagePreprocessor, 'cast_data', lambda self, data: events.append('copy') or data
    )
    batch = dict(image=torch.zeros(1, 3, 4, 4, dtype=torch.uint8), mask=torch.ones(1, 2, 2))
    ImagePreprocessor(MEAN, STD)(batch)
    assert events[:4] == [
        ('begin', copying),
        'copy',
        ('end', copying),
        ('computing waits for', copying),
    ]
    assert events[4:] == [('read by', computing)] * 2


@pytest.mark.parametrize(
    'changes',
    [dict(erase=torch.zeros(2, 4, dtype=torch.int64)), dict(image=torch.zeros(2, 3, 4, 4))],
)
def test_only_untouched_bytes_are_left_to_a_compiled_model(changes):
    batch = dict(image=torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    preprocessor = ImagePreprocessor(MEAN, STD)
    preprocessor.normalizes_later = True
    assert preprocessor(batch, training=True)['pixels'] is batch['image']
    for data, training in ((batch, False), ({**batch, **changes}, True)):
        assert set(preprocessor(data, training)) == {'image'}


def test_it_is_where_a_module_around_the_model_has_moved_it():
    preprocessor = ImagePreprocessor(mean=[120.0], std=[60.0])
    around = torch.nn.Sequential(torch.nn.Sequential(preprocessor))
    around.to('meta')
    assert preprocessor.device.type == 'meta'
    batch = preprocessor(dict(image=torch.zeros(1, 1, 2, 2, dtype=torch.uint8)))
    assert batch['image'].device.type == 'meta'
