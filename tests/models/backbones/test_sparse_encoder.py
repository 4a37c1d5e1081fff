"""A network on visible blocks: plain where nothing is masked, and blind to what is masked."""

import copy

import pytest
import torch
from timm.models.metaformer import StarReLU
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim.engine import sync_batch_norm
from a2mim.engine.sync_batch_norm import JointBatchNorm
from a2mim.models.sparse_encoder import SparseBackbone
from a2mim.models.visible_blocks import VisibleBlocks, normalize
from host_sync import no_host_sync

# A layer or more of each that is handled in a way of its own, and options that make it small.
THIN = dict(layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))
FAMILIES = {
    'test_resnet': {},  # BatchNorm, average pooling
    'resnetblur18': THIN,  # blur pooling
    'ecaresnet26t': THIN,  # ECA
    'legacy_seresnet18': dict(layers=(1, 1, 1, 1)),  # SE, of its own class
    'regnety_002': {},  # SE
    'resnetv2_18': THIN,  # BatchNorm before the convolution
    'resnetv2_50d_gn': THIN | dict(channels=(128, 128, 256, 256)),  # GroupNorm
    'densenet121': dict(block_config=(1, 1, 1, 1)),
    'test_byobnet': {},
    'repvgg_a0': {},  # BatchNorm as a branch
    'cs3darknet_focus_s': {},
    'hgnetv2_b0': {},  # padding within the stem, affine layers
    'test_efficientnet': {},  # SE
    'test_efficientnet_gn': {},  # GroupNorm
    'test_efficientnet_ln': {},
    'mobilenetv3_small_050': {},
    'mobilenetv4_conv_small_050': {},
    'test_convnext': {},  # LayerNorm over the last axis
    'test_convnext2': {},  # GRN
    'test_mambaout': {},  # gated convolutions
    'test_nfnet': {},  # no norm
    'repvit_m0_9': dict(depth=(1, 1, 1, 1)),
}
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d)


def image_and_mask(size: int = 64, block: int = 32) -> tuple[Tensor, Tensor]:
    """Two images, of which one block and two are visible."""
    grid = size // block
    mask = torch.ones(2, grid, grid)
    mask[0, 0, 0] = mask[1, -1, 0] = mask[1, 0, -1] = 0
    return torch.randn(2, 3, size, size), mask


@pytest.mark.parametrize('name', FAMILIES)
def test_with_nothing_masked_it_is_the_plain_network_and_else_masked_positions_stay_0(name):
    torch.manual_seed(0)
    backbone, (image, mask) = SparseBackbone(name, **FAMILIES[name]), image_and_mask()
    with torch.no_grad():
        for parameter in backbone.parameters():  # biases and scales start at 0, or 1
            parameter.add_(0.1 * torch.rand_like(parameter) * (parameter.ndim < 2))
    backbone.check_mask_grid((64, 64), (2, 2))
    plain, sparse = backbone, copy.deepcopy(backbone)
    for training in (True, False):
        plain.train(training), sparse.train(training)
        torch.manual_seed(1)
        expected = plain(image)
        torch.manual_seed(1)
        assert torch.equal(sparse(image, torch.zeros(2, 2, 2)), expected)
        buffers = dict(plain.named_buffers())
        assert all(torch.equal(b, buffers[n]) for n, b in sparse.named_buffers())
    assert sparse.state_dict().keys() == plain.state_dict().keys()
    torch.manual_seed(1)
    assert torch.equal(sparse(image), expected)  # without a mask the hooks do nothing
    check_that_layers_see_nothing_of_masked_positions(sparse.train(), image, mask)


def check_that_layers_see_nothing_of_masked_positions(
    backbone: SparseBackbone, image: Tensor, mask: Tensor
) -> None:
    """Every layer gets 0 there, and every map is 0 there, so that the mask is never blurred."""
    seen = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        whole = x.ndim == 4 and x.shape[2] % 2 == 0 and x.shape[1] != 3
        if whole:
            seen.append(x.masked_select(VisibleBlocks(mask).hidden(x)).count_nonzero())

    for module in backbone.model.modules():
        if isinstance(module, LAYERS):
            module.register_forward_pre_hook(look)
    image = image.requires_grad_()
    maps = backbone.maps(image, mask)
    assert len(seen) > 5 and sum(seen) == 0
    for x, (channels, stride) in zip(maps, backbone.stages, strict=True):
        assert x.shape == (2, channels, 64 // stride, 64 // stride)
        assert x.isfinite().all() and x.any()
        assert not x.masked_select(VisibleBlocks(mask).hidden(x)).any()
    assert [stride for _, stride in backbone.stages] == [32, 16, 8, 4]
    gradient = torch.autograd.grad(sum(x.square().sum() for x in maps), image)[0]
    hidden = VisibleBlocks(mask).hidden(image).expand_as(image)
    assert not gradient[hidden].any() and gradient[~hidden].any()


def test_what_has_no_masked_form_is_refused_by_name():
    layers = {
        'test_vit': r'blocks\.0\.attn \(Attention',
        'test_maxvit': 'PartitionAttention',
        'mixer_s32_224': 'stride',
        'convmixer_768_32': 'stride 7',
        'resnest14d': 'SplitAttn',
        'skresnet18': 'SelectiveKernel',
        'test_efficientnet_evos': 'EvoNorm2dS0',
    }
    for name, layer in layers.items():
        with torch.device('meta'), pytest.raises(ValueError, match=layer) as caught:
            SparseBackbone(name)
        message = str(caught.value)
        assert 'SparK is for convolutional networks' in message, name
        assert 'a2mim' in message and 'mae' in message and '\n' not in message, name
    odd = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.InstanceNorm2d(4), nn.Conv2d(4, 4, 2, 2))
    with pytest.raises(ValueError, match=r'has 1 \(InstanceNorm2d'):
        SparseBackbone(odd)


def test_a_bias_after_an_activation_does_not_reach_masked_positions():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 4, 4), StarReLU(bias_value=-0.4), nn.Conv2d(8, 8, 3, 2, 1)]
    backbone = SparseBackbone(nn.Sequential(*layers), img_size=64)
    image, mask = image_and_mask()
    alone = backbone(image[1:, :, 32:, :32])
    torch.testing.assert_close(backbone(image, mask)[1:, :, 4:, :4], alone)


class Squeeze(nn.Module):
    """A network of one's own: two convolutions, each with a norm, and a gate between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 7, stride=4, padding=3), nn.BatchNorm2d(6)
        self.gate = SqueezeExcite(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(2, 8)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 8, H / 8, W / 8)."""
        x = self.gate(F.relu(self.norm1(self.conv1(image))))
        return self.norm2(self.conv2(x))


class SqueezeExcite(nn.Module):
    """x · sigmoid(linear(mean(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


def directly(net: Squeeze, image: Tensor, mask: Tensor) -> list[Tensor]:
    """The same network, position by position on those that are visible."""
    first, second = (
        (1 - mask).repeat_interleave(n, 1).repeat_interleave(n, 2).bool() for n in (4, 2)
    )
    pixels = image * (1 - mask).repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    x = net.conv1(pixels).movedim(1, -1)
    rows = F.batch_norm(
        x[first],
        net.norm1.running_mean,
        net.norm1.running_var,
        net.norm1.weight,
        net.norm1.bias,
        net.norm1.training,
        net.norm1.momentum,
        net.norm1.eps,
    )
    x = torch.zeros_like(x)
    x[first] = rows.relu()
    fc = net.gate.fc
    gated = []
    for one, visible in zip(x, first, strict=True):
        mean = one[visible].mean(0)
        gated.append(one * (fc.weight.flatten(1) @ mean + fc.bias).sigmoid())
    x = torch.stack(gated).movedim(-1, 1)
    y = net.conv2(x).movedim(1, -1)
    norm, outputs = net.norm2, []
    for one, visible in zip(y, second, strict=True):
        group = one[visible].unflatten(-1, (2, 4))  # (n, G, C / G)
        var, mean = torch.var_mean(group, (0, 2), correction=0, keepdim=True)
        made = torch.zeros_like(one)
        made[visible] = ((group - mean) / (var + norm.eps).sqrt()).flatten(1)
        made[visible] = made[visible] * norm.weight + norm.bias
        outputs.append(made)
    return [torch.stack(outputs).movedim(-1, 1), net.conv2.weight.new_tensor(0) + x]


@pytest.mark.parametrize('size', [(64, 64), (32, 96)])
def test_two_layers_equal_a_direct_reference_with_gradients_and_running_statistics(size):
    torch.manual_seed(0)
    net = Squeeze().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    image = torch.randn(3, 3, *size, dtype=torch.float64) * 2 + 1
    mask = torch.ones(3, size[0] // 16, size[1] // 16)
    mask[0, 0, 0] = mask[1, :, 1] = mask[2, 1, 0] = mask[2, 0, 1] = 0
    backbone = SparseBackbone(copy.deepcopy(net), img_size=size)
    for training in (True, False, True):
        net.train(training), backbone.train(training)
        expected = directly(net, image, mask)
        found = backbone.maps(image, mask)
        close = dict(rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found[0], expected[0], **close)
        torch.testing.assert_close(found[1], expected[1], **close)
        torch.testing.assert_close(backbone.model.norm1.running_mean, net.norm1.running_mean)
        torch.testing.assert_close(backbone.model.norm1.running_var, net.norm1.running_var)
        gradients = [
            torch.autograd.grad(sum((x**3).sum() for x in maps), list(model.parameters()))
            for maps, model in ((expected, net), (found, backbone.model))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-8)


def test_statistics_joined_over_processes_are_those_of_all_visible_positions(monkeypatch):
    # One process that counts as a group of two with equal parts: sums are twice as large.
    module = sync_batch_norm
    monkeypatch.setattr(module.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(module.distributed, 'get_world_size', lambda group: 2)
    monkeypatch.setattr(module.distributed, 'get_rank', lambda group: 0)
    monkeypatch.setattr(module.distributed, 'group', type('Group', (), dict(WORLD=None)))
    doubled = lambda x, *_: x.flip(0) + x if x.ndim == 2 else 2 * x  # noqa: E731
    monkeypatch.setattr(module.collectives, 'all_reduce', doubled)
    monkeypatch.setattr(module.collectives, 'wait_tensor', lambda x: x)
    mask = image_and_mask()[1]
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64) + 3
    x = x.masked_fill(VisibleBlocks(mask).hidden(x), 0).requires_grad_()
    found = []
    for kind in (nn.BatchNorm2d, JointBatchNorm):
        norm = kind(4).double()
        y = normalize(norm, x, VisibleBlocks(mask))
        gradient = torch.autograd.grad(y.pow(3).sum(), x)[0]
        hidden = VisibleBlocks(mask).hidden(x)
        found.append((y, gradient.masked_fill(hidden, 0), norm.running_mean))
    torch.testing.assert_close(*found)


def test_a_step_never_waits_for_the_device_and_images_may_differ_in_type():
    backbone, (image, mask) = SparseBackbone('test_efficientnet'), image_and_mask()
    with no_host_sync():
        sum(x.square().sum() for x in backbone.maps(image, mask)).backward()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = backbone.maps(image, mask.to(torch.uint8))
    assert all(x.dtype == torch.bfloat16 and x.isfinite().all() for x in maps)


def test_a_network_that_recomputes_gives_the_same_gradients():
    image, mask = image_and_mask()
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = SparseBackbone('test_convnext', grad_checkpointing=checkpointing)
        sum(x.square().sum() for x in backbone.maps(image, mask)).backward()
        found.append({name: p.grad for name, p in backbone.named_parameters()})
        assert backbone.visible() is None  # the mask is gone after the backward pass
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    'size, grid, message',
    [
        ((70, 64), (1, 2), r'70×64.*stride 32.*choose 64×64'),
        ((96, 96), (6, 6), r'blocks of 16×16.*block_size=32'),
        ((96, 96), (2, 2), r'blocks of 48×48.*block_size=32'),
        ((64, 96), (2, 6), r'blocks of 32×16'),
    ],
)
def test_sizes_that_do_not_fit_are_refused(size, grid, message):
    with torch.device('meta'):
        backbone = SparseBackbone('test_resnet')
    backbone.check_mask_grid((96, 192), (3, 3))  # larger blocks are of several features
    with pytest.raises(ValueError, match=message):
        backbone.check_mask_grid(size, grid)


def test_layers_between_the_stages_must_fall_into_the_blocks_too():
    layers = [nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 2, 2, 1), nn.Conv2d(4, 4, 2, 2)]
    backbone = SparseBackbone(nn.Sequential(*layers))  # 31, 16 and 8 features of 64 pixels
    with pytest.raises(ValueError, match=r'0 of 31×31 features, no multiple of 8×8 mask blocks'):
        backbone.check_mask_grid((64, 64), (8, 8))


def test_maps_of_a_network_whose_stages_are_no_modules_are_found():
    with torch.device('meta'):
        backbone = SparseBackbone('hrnet_w18_small')
    assert backbone.stages == [(2048, 32), (512, 16), (256, 8), (128, 4)]


def test_a_network_of_torchvision_is_read_at_its_outermost_modules():
    torchvision = pytest.importorskip('torchvision')
    with torch.device('meta'):
        backbone = SparseBackbone(torchvision.models.resnet50())
        gated = SparseBackbone(torchvision.models.mobilenet_v3_small())
    assert backbone.stages == [(2048, 32), (1024, 16), (512, 8), (256, 4)]
    assert [stride for _, stride in gated.stages] == [32, 16, 8, 4]
    backbone.check_mask_grid((224, 224), (7, 7))


def test_options_for_other_uses_are_refused():
    with pytest.raises(TypeError, match=r"\['mask_after', 'num_classes'\]"):
        SparseBackbone('test_resnet', mask_after='layer3', num_classes=3)
