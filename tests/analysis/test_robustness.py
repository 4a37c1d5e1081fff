"""Changes of images against what they promise, and curves that go on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from a2mim.analysis import AnalysisImages, read_network
from a2mim.analysis.robustness import (
    CORRUPTIONS,
    check_measure,
    corrupt,
    corruption_levels,
    drop_patches,
    occlusion_levels,
    patch_mask,
    robustness_curves,
    shuffle_levels,
    shuffle_patches,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pictures() -> torch.Tensor:
    """Photographs, (4, 3, 64, 64)."""
    return AnalysisImages('photos', 4).pixels((64, 64))


@pytest.mark.parametrize('order', ['random', 'salient', 'background'])
@pytest.mark.parametrize('ratio, number', [(0, 0), (0.25, 4), (0.5, 8), (1, 16)])
def test_occlusion_drops_exactly_the_share(order: str, ratio: float, number: int) -> None:
    mask = patch_mask(torch.rand(3, 4, 4), ratio, order, rng())
    assert mask.sum(dim=(1, 2)).tolist() == [number] * 3


def test_salient_patches_go_first_and_background_ones_first() -> None:
    saliency = torch.arange(4.0).view(1, 2, 2)
    assert patch_mask(saliency, 0.25, 'salient', rng()).flatten().tolist() == [0, 0, 0, 1]
    assert patch_mask(saliency, 0.25, 'background', rng()).flatten().tolist() == [1, 0, 0, 0]


def test_dropped_patches_have_the_mean_colour_and_others_stay() -> None:
    pixels = pictures()
    mask = torch.zeros(4, 2, 2)
    mask[:, 0, 0] = 1
    found = drop_patches(pixels, mask)
    mean = pixels.double().mean(dim=(2, 3))[..., None, None].float()
    torch.testing.assert_close(found[..., :32, :32], mean.expand(-1, -1, 32, 32))
    assert torch.equal(found[..., 32:, :], pixels[..., 32:, :].float())


def test_shuffling_keeps_every_patch() -> None:
    pixels = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8)
    found = shuffle_patches(pixels, 4, rng())
    assert not torch.equal(found, pixels)

    def patches(images: torch.Tensor) -> list:
        cut = images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5)
        return [sorted(image) for image in cut.reshape(2, 16, 12).tolist()]

    assert patches(found) == patches(pixels)
    assert torch.equal(shuffle_patches(pixels, 1, rng()), pixels)


def test_noise_has_the_stated_deviation() -> None:
    grey = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)
    for severity, deviation in ((1, 0.08), (2, 0.12)):  # higher ones are clipped at black and white
        noise = corrupt(grey, 'gaussian_noise', severity, 0).float() - 128
        assert float(noise.std()) / 255 == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_severity_grows_and_the_seed_decides(name: str) -> None:
    pixels = AnalysisImages('photos', 4).pixels((64, 64))
    changed = [corrupt(pixels, name, severity, 3) for severity in (1, 2, 3, 4, 5)]
    errors = [float((image.float() - pixels.float()).square().mean()) for image in changed]
    assert errors[0] > 0
    assert errors == sorted(errors)
    assert torch.equal(changed[2], corrupt(pixels, name, 3, 3))


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda: corrupt(pictures(), 'fog', 1, 0), 'fog'),
        (lambda: corrupt(pictures(), 'jpeg', 6, 0), 'severity 6'),
        (lambda: corruption_levels(['fog']), 'fog'),
        (lambda: occlusion_levels([1.5], 4), 'ratio 1.5'),
        (lambda: shuffle_patches(pictures(), 5, rng()), 'does not divide'),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_accuracy_on_other_classes_or_without_labels_is_refused() -> None:
    images, network = AnalysisImages('photos', 4), read_network('random:test_resnet')
    with pytest.raises(ValueError, match='has 1000 classes, the images have 14'):
        check_measure([network], images, 'accuracy')
    images.labels = None
    with pytest.raises(ValueError, match='needs labels'):
        check_measure([network], images, 'accuracy')


def test_untouched_images_have_similarity_one_and_a_second_call_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, network = AnalysisImages('photos', 4), read_network('random:test_vit')
    levels = [*shuffle_levels([1, 4]), *occlusion_levels([0, 0.5], 4)]
    call = (network, images, levels, 'similarity', tmp_path, {})
    curves = robustness_curves(*call)
    for _, scores in curves.values():
        np.testing.assert_allclose(scores[0], 1, atol=1e-5)
        assert (scores[1] < 1 - 1e-5).all()
    monkeypatch.setattr('a2mim.analysis.robustness._scores', None)
    again = robustness_curves(*call)
    np.testing.assert_array_equal(again['salient'][1], curves['salient'][1])
    with pytest.raises(TypeError):  # another seed is another measurement
        robustness_curves(*call, seed=1)


def test_ratio_0_is_clean_accuracy(tmp_path: Path) -> None:
    images, network = AnalysisImages('photos', 4), read_network('random:test_resnet')
    scores = robustness_curves(network, images, occlusion_levels([0], 4), 'accuracy', tmp_path, {})[
        'random'
    ][1]
    with torch.no_grad():
        batch = network.normalize(images.pixels(network.image_size))
        hits = network.model(batch).argmax(1) == images.labels
    np.testing.assert_array_equal(scores[0], 100.0 * hits.numpy())
