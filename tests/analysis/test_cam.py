"""Class activation maps against formulas, and which layers they look at."""

import sys

import numpy as np
import pytest
import timm
import torch
from torch import nn

from a2mim.analysis import Network
from a2mim.analysis.cam import class_activation_map, default_layer, map_reader
from a2mim.models.data_preprocessor import ImagePreprocessor


class Linear(nn.Module):
    """A convolution, the mean over positions, and a linear classifier without ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.num_classes = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 4), 4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).mean(dim=(2, 3)))


def network(model: nn.Module, size: tuple[int, int]) -> Network:
    return Network('net', 'net', model.eval(), ImagePreprocessor([127.0] * 3, [64.0] * 3), size)


def test_gradcam_of_a_linear_head_is_the_weighted_sum_of_the_features() -> None:
    net = network(Linear(), (8, 12))
    pixels = torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8)
    found, categories = class_activation_map(net, pixels, layers=['conv'], categories=[2, 0])
    features = net.model.conv(net.normalize(pixels[None]))[0].detach()
    for one, category in zip(found, categories, strict=True):
        # The mean gradient of channel k is its weight, over the number of positions.
        wanted = torch.einsum('k,khw->hw', net.model.fc.weight[category].detach(), features).relu()
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        np.testing.assert_allclose(one, wanted, atol=1e-5)


def test_category_is_the_predicted_one_and_frozen_weights_do_not_matter() -> None:
    net = network(Linear().requires_grad_(False), (8, 8))
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    found, categories = class_activation_map(net, pixels, layers=['conv'])
    assert categories == [int(net.model(net.normalize(pixels[None])).argmax())]
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    'method', ['gradcam++', 'xgradcam', 'eigencam', 'eigengradcam', 'layercam']
)
def test_every_method_maps_a_rectangle(method: str) -> None:
    net = network(timm.create_model('test_vit', img_size=(32, 64)), (32, 64))
    pixels = torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8)
    found, categories = class_activation_map(net, pixels, method)
    assert found.shape == (1, 32, 64)
    assert (categories == []) == (method == 'eigencam')
    assert 0 <= found.min() <= found.max() <= 1 + 1e-6


def test_tokens_of_a_rectangle_lie_in_rows_behind_the_prefix() -> None:
    model = timm.create_model('test_vit', img_size=(32, 48))
    tokens = torch.arange(7.0).reshape(1, 7, 1)
    assert map_reader(model, (32, 48))(tokens)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert map_reader(model, (32, 48), 0)(tokens[:, :6])[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match='7 tokens are not 0 extra ones and 2×3 patches'):
        map_reader(model, (32, 48), 0)(tokens)


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('test_vit', 'blocks.5.norm1'),
        ('resnet18', 'layer4.1.bn2'),
        ('test_resnet', 'layer4.0.bn2'),
        ('test_efficientnet', 'bn2'),
    ],
)
def test_default_layer(name: str, layer: str) -> None:
    with torch.device('meta'):
        assert default_layer(timm.create_model(name)) == layer


def test_what_the_network_does_not_have_is_refused() -> None:
    pixels = torch.zeros(3, 32, 32, dtype=torch.uint8)
    net = network(timm.create_model('test_vit', img_size=32), (32, 32))
    with pytest.raises(ValueError, match='--target-category 1000: net has 1000 classes, 0 to 999'):
        class_activation_map(net, pixels, categories=[1000])
    with pytest.raises(ValueError, match="no module 'layer9'; its stages are "):
        class_activation_map(net, pixels, layers=['layer9'])
    with pytest.raises(ValueError, match='neither a map nor a token grid'):
        class_activation_map(net, pixels, layers=['head_drop'])
    trunk = network(timm.create_model('test_vit', img_size=32, num_classes=0), (32, 32))
    with pytest.raises(ValueError, match='a backbone without classes, which gradcam needs'):
        class_activation_map(trunk, pixels)
    assert class_activation_map(trunk, pixels, 'eigencam')[0].shape == (1, 32, 32)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[analysis\]'"):
        class_activation_map(network(Linear(), (8, 8)), torch.zeros(3, 8, 8, dtype=torch.uint8))
