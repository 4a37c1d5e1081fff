"""What pipelines of published recipes make of images.

Their operations and numbers stand in tests/data/recipes/; what a single operation does is in
tests/datasets/.
"""

import re

import numpy as np
import torch
from mmengine import Config

from a2mim.datasets.transforms import Pipeline
from a2mim.registry import TRANSFORMS
from recipe_facts import goldens
from recipes import PRETRAINING, PUBLISHED, read

GOLDENS = goldens()
TRAINED_SMALLER = {160: 224}  # RSB A3 is tested at 224 pixels


def size_of(name: str) -> int:
    return int(re.search(r'_sz(\d+)_', name)[1])


def representatives() -> list[str]:
    """One recipe for each pair of training and test pipelines."""
    keys = 'train.operations', 'train.erase', 'val.operations'
    found = {tuple(GOLDENS[name].get(key) for key in keys): name for name in PUBLISHED}
    return list(found.values())


def picture(name: str) -> torch.Tensor:
    """Noise; CIFAR from scratch and STL-10 have images of one size, which tests leave alone."""
    side = size_of(name) if size_of(name) in (32, 96) else 300
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side + 64 * (side == 300)))
    return torch.from_numpy(pixels.astype(np.uint8))


def test_images_come_out_in_the_size_that_the_name_tells():
    for name in representatives():
        config, image = read(name), picture(name)
        size = size_of(name)
        check_shape(config.train_dataloader, image, size, name)
        if config.get('val_dataloader'):
            check_shape(config.val_dataloader, image, TRAINED_SMALLER.get(size, size), name)


def check_shape(loader: Config, image: torch.Tensor, size: int, name: str) -> None:
    """The same draws give the same image, of ``size`` pixels, in bytes."""
    pipeline = Pipeline(loader.dataset.pipeline)
    first, again = (pipeline(image, np.random.default_rng(1)) for _ in range(2))
    assert first.shape == (3, size, size), name
    assert first.dtype == torch.uint8, name
    assert torch.equal(first, again), name


def test_training_draws_and_testing_does_not():
    for name in representatives():
        config, image = read(name), picture(name)
        generators = [np.random.default_rng(seed) for seed in range(4)]
        train = Pipeline(config.train_dataloader.dataset.pipeline)
        assert len({train(image, rng).numpy().tobytes() for rng in generators}) > 1, name
        if config.get('val_dataloader'):
            test = Pipeline(config.val_dataloader.dataset.pipeline)
            assert len({test(image, rng).numpy().tobytes() for rng in generators}) == 1, name


def test_60_percent_of_blocks_of_32_pixels_are_hidden_and_every_block_can_be():
    for name in PRETRAINING:
        mask = TRANSFORMS.build(read(name).train_dataloader.dataset.mask)
        side = size_of(name) // 32
        rng = np.random.default_rng(0)
        hidden = np.stack([np.asarray(mask(rng)) for _ in range(50)])
        assert hidden.shape == (50, side, side), name
        assert set(hidden.sum(axis=(1, 2))) == {{7: 30, 6: 22}[side]}, name
        assert (hidden.mean(axis=0) > 0).all() and (hidden.mean(axis=0) < 1).all(), name
