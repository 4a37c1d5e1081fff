"""The length of a fine-tuning from a folder, the learning rate, and times on the command line."""

import pytest

from a2mim.own_data.length import finetuning_epochs, learning_rate, seconds_of


@pytest.mark.parametrize(
    ('per_epoch', 'epochs'), [(1, 300), (4, 250), (10, 100), (600, 100), (1000, 63), (20_000, 20)]
)
def test_finetuning_is_longer_for_few_images_and_shorter_for_many(per_epoch, epochs):
    assert finetuning_epochs(per_epoch)[0] == epochs


@pytest.mark.parametrize(('batch', 'rate'), [(128, 5e-4), (32, 2.5e-4), (512, 1e-3), (2, 6.25e-5)])
def test_the_learning_rate_follows_the_root_of_the_batch(batch, rate):
    assert learning_rate(5e-4, 128, batch) == rate


@pytest.mark.parametrize(
    ('text', 'seconds'),
    [('90s', 90), ('2m', 120), ('4h', 14_400), ('1h30m', 5400), ('0.5h', 1800), ('1m5s', 65)],
)
def test_a_time_has_units(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize('text', ['4', '', '0m', 'h', '2x', '-2m', '2m1h', '1.h', ' 2m'])
def test_a_time_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match=r'4h, 1h30m, 90s'):
        seconds_of(text)
