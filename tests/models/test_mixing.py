"""Mixup and cutmix as published: what is mixed with what, how much, and the targets of it.

``timm.data.Mixup`` does it. One thing differs on purpose, as ``ImagePreprocessor`` says: the
partner of an image.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.losses import BinaryCrossEntropy, SoftTargetCrossEntropy

CLASSES, SIDE = 4, 32
SWIN = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=CLASSES)
RSB = dict(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES)
DRAWS = 1500


def mix(options: dict) -> tuple[Tensor, Tensor]:
    """A batch of four images, image i uniformly 1 + i, of the classes 0 to 3."""
    preprocessor = ImagePreprocessor([0.0], [1.0], mixup=options)
    image = torch.arange(1, 5).view(4, 1, 1, 1).expand(4, 1, SIDE, SIDE)
    batch = preprocessor(dict(image=image, label=torch.arange(4)), training=True)
    return batch['image'], batch['label']


def kept_shares(image: Tensor) -> tuple[str, float]:
    """How the first image (1) was mixed with the last (4), and how much of it is left."""
    values = image[0].unique()
    if len(values) == 2:
        return 'cutmix', (image[0] == 1).float().mean().item()
    if values.item() in (1.0, 4.0):
        return 'unknown', (4 - values.item()) / 3
    return 'mixup', (4 - values.item()) / 3


@pytest.fixture(scope='module', params=[SWIN, RSB], ids=['swin', 'rsb'])
def draws(request) -> tuple[dict, list[tuple[str, float]]]:
    """Many batches: the kind of each, and the share of the image that is left."""
    np.random.seed(0)
    return request.param, [kept_shares(mix(request.param)[0]) for _ in range(DRAWS)]


def test_every_batch_is_mixed_by_one_of_both_with_equal_probability(draws):
    options, found = draws
    kinds = Counter(kind for kind, _ in found)
    # cutmix at a share near 0 or 1 is no rectangle, and mixup by Beta(0.1, 0.1) often rounds
    assert kinds['cutmix'] / DRAWS == pytest.approx(0.5 * (1 - 0.03), abs=0.05)
    if options is SWIN:
        assert kinds['unknown'] / DRAWS < 0.03


def test_the_share_of_mixup_follows_its_beta_distribution(draws):
    options, found = draws
    shares = [share for kind, share in found if kind == 'mixup']
    expected = np.random.default_rng(0).beta(*[options['mixup_alpha']] * 2, 100_000)
    expected = expected[(expected > 1e-6) & (expected < 1 - 1e-6)]
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        tolerance = 0.05 if options is SWIN else 0.2
        assert np.quantile(shares, quantile) == pytest.approx(
            np.quantile(expected, quantile), abs=tolerance
        )


def test_the_box_of_cutmix_is_the_published_one(draws):
    _, found = draws
    shares = [share for kind, share in found if kind == 'cutmix']
    rng, expected = np.random.default_rng(0), []
    for _ in range(20_000):
        side = int(SIDE * np.sqrt(1 - rng.uniform()))  # Beta(1, 1)
        centre = rng.integers(SIDE, size=2)
        low = np.clip(centre - side // 2, 0, SIDE)
        high = np.clip(centre + (side + 1) // 2, 0, SIDE)
        expected.append(1 - np.prod(high - low) / SIDE**2)
    expected = [share for share in expected if 0 < share < 1]
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(shares, quantile) == pytest.approx(
            np.quantile(expected, quantile), abs=0.05
        )


@pytest.mark.parametrize('options', [SWIN, RSB], ids=['swin', 'rsb'])
def test_targets_weight_both_labels_by_the_real_area_or_share_and_are_smoothed(options):
    np.random.seed(1)
    smoothing = options['label_smoothing']
    for _ in range(20):
        image, label = mix(options)
        _, share = kept_shares(image)
        expected = torch.zeros(CLASSES)
        expected[0], expected[3] = share, 1 - share
        expected = expected * (1 - smoothing) + smoothing / CLASSES
        torch.testing.assert_close(label[0], expected)


def test_one_share_and_one_box_hold_for_the_whole_batch():
    np.random.seed(2)
    image, label = mix(SWIN)
    _, share = kept_shares(image)
    assert torch.equal(label, label.flip(0).flip(1))
    assert (3 - image[1].mean().item()) == pytest.approx(share * 1.0, abs=1e-5)


def test_the_partner_of_an_image_is_its_mirror_in_the_batch():
    # Published: a random permutation. A batch is in random order already.
    np.random.seed(3)
    image, _ = mix(dict(SWIN, cutmix_alpha=0.0))
    torch.testing.assert_close(image + image.flip(0), torch.full_like(image, 5.0))


def test_the_loss_on_mixed_targets_is_the_published_mixture_of_losses():
    torch.manual_seed(0)
    logits, first, second = torch.randn(6, 10), torch.randint(10, (6,)), torch.randint(10, (6,))
    share, smoothing = 0.3, 0.1
    one_hots = [nn.functional.one_hot(label, 10).float() for label in (first, second)]
    soft = [one_hot * (1 - smoothing) + smoothing / 10 for one_hot in one_hots]
    mixed = share * soft[0] + (1 - share) * soft[1]
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    published = share * loss(logits, first) + (1 - share) * loss(logits, second)
    torch.testing.assert_close(SoftTargetCrossEntropy()(logits, mixed), published)


def test_the_binary_loss_takes_soft_targets_without_a_threshold():
    logits, target = torch.randn(4, 10), torch.zeros(4, 10)
    target[:, 0], target[:, 1] = 0.15, 0.85  # the RSB paper would drop the first
    log_p, log_q = logits.sigmoid().log(), (-logits).sigmoid().log()
    expected = -(target * log_p + (1 - target) * log_q).sum() / 4
    loss = BinaryCrossEntropy(smoothing=0.0, sum_classes=True)
    torch.testing.assert_close(loss(logits, target), expected)
