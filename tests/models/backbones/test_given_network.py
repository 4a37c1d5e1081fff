"""Any network with feature maps is a backbone, and parts are configs or objects."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

import a2mim
from a2mim.models import A2MIM, MIMHead, SimMIM
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.decoder import PixelShuffleDecoder
from a2mim.models.losses import L1Loss
from a2mim.models.spectral_losses import FocalFrequencyLoss
from a2mim.models.timm_backbone import TimmBackbone

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
NECK = dict(type='PixelShuffleDecoder')
HEAD = dict(type='MIMHead', spatial=dict(type='L1Loss'))


def conv(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU())


class Plain(nn.Module):
    """Three stages of stride 2 and, unless ``head`` is None, a classifier."""

    def __init__(self, head: int | None = 10, channels: int = 3) -> None:
        super().__init__()
        self.layer1, self.layer2 = conv(channels, 8), conv(8, 16)
        self.layer3 = conv(16, 24)
        self.head = nn.Linear(24, head) if head else None

    def forward(self, image):
        x = self.layer3(self.layer2(self.layer1(image)))
        return x if self.head is None else self.head(x.mean(dim=(2, 3)))


class Wrapped(Plain):
    """Returns a dict, or a tuple."""

    def __init__(self, kind: type) -> None:
        super().__init__(None)
        self.kind = kind

    def forward(self, image):
        x = super().forward(image)
        return dict(features=x) if self.kind is dict else (x, x.mean())


class Tokens(nn.Module):
    """A ViT of 32 pixels with ``prefix`` tokens before those of its patches."""

    def __init__(self, prefix: int, told: bool = False) -> None:
        super().__init__()
        if told:
            self.num_prefix_tokens = prefix
        self.embed = nn.Conv2d(3, 16, 4, 4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 16))
        self.positions = nn.Parameter(torch.randn(1, prefix + 64, 16))
        self.block1 = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.block2 = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, image):
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.block2(self.block1(x))


class ChannelsLast(nn.Module):
    """Features (B, H, W, C), as of torchvision's Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 12)

    def forward(self, image):
        return self.mix(self.embed(image).permute(0, 2, 3, 1))


NETWORKS = {
    'classifier': (Plain, 'layer2', 24, 8, 4),
    'maps': (lambda: Plain(None), 'layer1', 24, 8, 2),
    'dict': (lambda: Wrapped(dict), 'layer2', 24, 8, 4),
    'tuple': (lambda: Wrapped(tuple), 'layer3', 24, 8, 8),
    'patches': (lambda: Tokens(0), 'block1', 16, 4, 4),
    'class token': (lambda: Tokens(1), 'block1', 16, 4, 4),
    'registers': (lambda: Tokens(5, True), 'block1', 16, 4, 4),
    'channels last': (ChannelsLast, 'embed', 12, 4, 4),
    'sequential': (lambda: nn.Sequential(conv(3, 8), conv(8, 16)), '0', 16, 4, 2),
    'torchvision': (lambda: torchvision.models.resnet18(), 'layer3', 512, 32, 16),
    'torchvision swin': (lambda: torchvision.models.swin_t(), 'features.4', 768, 32, 16),
    'timm': (lambda: timm.create_model('test_resnet'), 'layer3', 96, 32, 16),
}


def algorithm(network, mask_after, **options) -> A2MIM:
    return A2MIM(network, NECK, HEAD, PREPROCESSOR, mask_after=mask_after, **options)


@pytest.mark.parametrize('kind', NETWORKS)
def test_a_network_of_any_origin_trains(kind):
    make, mask_after, channels, stride, mask_stride = NETWORKS[kind]
    torch.manual_seed(0)
    model = algorithm(make(), mask_after)
    backbone = model.backbone
    assert (backbone.out_channels, backbone.stride) == (channels, stride)
    assert backbone.mask_stride == mask_stride
    side = 64 if stride == 32 else 32
    image, mask = torch.randn(2, 3, side, side), torch.tensor([[[1.0, 0], [0, 1]]] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        losses.append(model(image=image, mask=mask, mode='loss')['loss_spatial'])
        optimizer.zero_grad()
        losses[-1].backward()
        assert backbone.mask_token.token.grad.abs().sum() > 0
        optimizer.step()
    assert losses[-1] < losses[0]
    assert model(image).shape == (2, channels, side // stride, side // stride)


def test_features_before_the_classifier_are_those_of_the_last_stage():
    network = Plain().eval()
    backbone = TimmBackbone(network)
    image = torch.randn(2, 3, 40, 24)
    expected = network.layer3(network.layer2(network.layer1(image)))
    assert torch.equal(backbone(image), expected)
    assert torch.equal(copy.deepcopy(backbone)(image), expected)  # as of an average of weights
    assert [*backbone.model.state_dict()] == [*network.state_dict()]


def test_the_token_is_after_the_named_module():
    network = Plain(None).eval()
    backbone = TimmBackbone(network, mask_after='layer2', mask_token=dict(init='zero')).eval()
    nn.init.constant_(backbone.mask_token.token, 3.0)
    image, mask = torch.randn(1, 3, 32, 32), torch.tensor([[[1.0, 0], [0, 0]]])
    features = network.layer2(network.layer1(image))
    features[:, :, :4, :4] += 3
    torch.testing.assert_close(backbone(image, mask), network.layer3(features))


class Checkpointed(Plain):
    def forward(self, image):
        return checkpoint(self.layer3, checkpoint(self.layer2, self.layer1(image), **NEW), **NEW)


NEW = dict(use_reentrant=False)


@pytest.mark.parametrize('mask_after', ['layer2', 'layer3'])
def test_a_network_that_computes_again_in_the_backward_pass_masks_again(mask_after):
    image, mask = torch.randn(2, 3, 32, 32), torch.tensor([[[1.0, 0], [0, 1]]] * 2)
    plain, recomputed = (
        algorithm(Plain(None), mask_after),
        algorithm(Checkpointed(None), mask_after),
    )
    recomputed.load_state_dict(plain.state_dict())
    for model in (plain, recomputed):
        model(image=image, mask=mask, mode='loss')['loss_spatial'].backward()
    for one, other in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_four_channels_are_those_of_the_preprocessor():
    four = dict(type='ImagePreprocessor', mean=[120.0] * 4, std=[60.0] * 4)
    model = A2MIM(Plain(channels=4), NECK, HEAD, four, mask_after='layer2')
    assert model.neck.projection.out_channels == 4 * 8**2


def test_objects_are_what_their_configs_are():
    name, mask_after = 'test_resnet', 'layer3'
    spectral = dict(type='FocalFrequencyLoss', loss_weight=0.5)
    head = dict(HEAD, spectral=spectral)
    backbone = dict(type='TimmBackbone', model_name=name, mask_after=mask_after)
    torch.manual_seed(0)
    described = A2MIM(backbone, NECK, head, PREPROCESSOR)
    objects = dict(
        neck=PixelShuffleDecoder(96, 32),
        head=MIMHead(L1Loss(), FocalFrequencyLoss(loss_weight=0.5)),
        data_preprocessor=ImagePreprocessor(mean=[120.0] * 3, std=[60.0] * 3),
    )
    network = timm.create_model(name, num_classes=0, global_pool='')
    image, mask = torch.randn(2, 3, 64, 64), torch.tensor([[[1.0, 0], [0, 1]]] * 2)
    found = []
    for given in (
        dict(backbone=network, mask_after=mask_after),
        dict(backbone=TimmBackbone(network, mask_after)),
    ):
        model = A2MIM(**given, **copy.deepcopy(objects))
        model.load_state_dict(described.state_dict())
        found.append(model(image=image, mask=mask, mode='loss'))
    torch.testing.assert_close(
        found[0], described(image=image, mask=mask, mode='loss'), rtol=0, atol=0
    )
    assert found[0].keys() == found[1].keys() == {'loss_spatial', 'loss_spectral'}
    torch_s = MIMHead(nn.L1Loss(reduction='none'))
    model = A2MIM(network, NECK, torch_s, PREPROCESSOR, mask_after=mask_after)
    model.load_state_dict(described.state_dict())
    loss = model(image=image, mask=mask, mode='loss')['loss_spatial']
    torch.testing.assert_close(loss, found[0]['loss_spatial'])


def test_simmim_takes_them_too():
    model = SimMIM(
        Plain(), NECK, HEAD, PREPROCESSOR, mask_after='layer2', mask_token=dict(mode='replace')
    )
    mask = torch.tensor([[[1.0, 0], [0, 1]]])
    assert model(image=torch.randn(1, 3, 32, 32), mask=mask, mode='loss')['loss_spatial'] > 0


def test_a_model_of_objects_reads_images():
    model = algorithm(Plain(), 'layer2').eval()
    image = torch.zeros(3, 300, 280, dtype=torch.uint8)
    assert a2mim.features(model, image, pooled=True).shape == (1, 24)
    assert a2mim.reconstruct(model, image)['reconstruction'].shape == (224, 224, 3)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, image):
        return self.fc(image.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ('make', 'error', 'words'),
    [
        (
            lambda: algorithm(Plain(), None),
            ValueError,
            r'set mask_after.*layer1 \(stride 2\), layer2',
        ),
        (
            lambda: algorithm(Plain(), 'layr2'),
            ValueError,
            r"no module 'layr2'; close to it: .*layer2",
        ),
        (lambda: algorithm(Plain(), 2), ValueError, 'mask_after=2 is not an index'),
        (
            lambda: algorithm(Plain(), 'head'),
            ValueError,
            r"'head' returns features of shape \(1, 10\)",
        ),
        (lambda: algorithm(Pooled(), 'fc'), ValueError, r'returns features of shape \(1, 4\)'),
        (
            lambda: algorithm(Plain(channels=5), 'layer2'),
            ValueError,
            'takes no image of 3 channels',
        ),
        (lambda: TimmBackbone(Plain(), num_classes=3), ValueError, 'not for a network'),
        (lambda: TimmBackbone(Plain(), out_indices=[1]), ValueError, 'not for a network'),
        (lambda: TimmBackbone(Plain(), depth=3), TypeError, r"\['depth'\] are options for timm"),
        (
            lambda: A2MIM(
                TimmBackbone(Plain(), 'layer2'), NECK, HEAD, PREPROCESSOR, mask_after='layer1'
            ),
            ValueError,
            r"is built already: give \['mask_after'\] to it",
        ),
        (
            lambda: A2MIM(
                Plain(), PixelShuffleDecoder(24, 4), HEAD, PREPROCESSOR, mask_after='layer2'
            ),
            ValueError,
            r'makes \(1, 3, 16, 16\).*\(1, 3, 32, 32\) are needed: stride 8',
        ),
        (
            lambda: A2MIM(
                Plain(), PixelShuffleDecoder(7, 8), HEAD, PREPROCESSOR, mask_after='layer2'
            ),
            ValueError,
            'does not take the features of the backbone, of 24 channels',
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(make, error, words):
    with pytest.raises(error, match=words):
        make()
