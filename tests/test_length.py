"""The length of a pre-training by optimiser steps, and how often something of it is shown."""

import pytest

from a2mim.length import is_due, pretraining_epochs


@pytest.mark.parametrize(
    ('images', 'batch', 'epochs'),
    [
        (200, 32, 800),  # 4800 steps
        (200, 128, 3000),  # one step an epoch
        (20, 4, 800),
        (2, 1, 1500),  # the least number of steps, whatever the epochs
        (10_000, 128, 800),
        (20_000, 128, 401),
        (100_000, 128, 80),
        (1_281_167, 128, 20),  # the fewest epochs
        (2_000_000, 128, 20),
        (1_281_167, 2048, 100),  # the run that the number of steps is of
    ],
)
def test_pretraining_counts_steps_within_bounds_of_epochs(images, batch, epochs):
    found, why = pretraining_epochs(images // batch)
    assert found == epochs and why
    assert found * (images // batch) >= 3000


@pytest.mark.parametrize(
    ('epochs', 'interval', 'shown'),
    [(7, 3, [3, 6, 7]), (20, None, [*range(1, 21)]), (41, None, [*range(3, 41, 3), 41])],
)
def test_what_is_shown_is_shown_at_the_end_and_twenty_times_by_default(epochs, interval, shown):
    assert [e for e in range(1, epochs + 1) if is_due(e, epochs, interval)] == shown
