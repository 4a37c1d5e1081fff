"""MAE: the encoder is timm's on fewer tokens, the loss the published one, bad input refused."""

import copy
import math
from pathlib import Path

import pytest
import timm
import torch
from mmengine import Config
from torch import Tensor, nn
from torch.nn import functional as F

import a2mim
from a2mim.engine.config_check import check_mask
from a2mim.masking import upsample_mask
from a2mim.models import MAE, TimmBackbone
from a2mim.models.visible_tokens import pick
from a2mim.registry import TRANSFORMS
from a2mim.weights.fit import COMPLETE, fit_model, load_weights
from a2mim.weights.names import to_a2mim
from host_sync import no_host_sync

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0] * 3, std=[64.0] * 3)
DECODER = dict(type='MAEDecoder', width=16, depth=1, num_heads=2)
TINY = dict(img_size=64, depth=2, embed_dim=32, num_heads=2)
VIT = dict(model_name='vit_tiny_patch16_224', **TINY)
BEIT = dict(model_name='beit_base_patch16_224', **TINY)
SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_abs_pos_emb=True)
# Each kind of positions, and of tokens beside the patches.
NETWORKS = {
    'absolute': VIT,
    'absolute, rectangular, 5 bands': VIT | dict(img_size=(32, 128), in_chans=5),
    'absolute, images of any size': VIT | dict(dynamic_img_size=True),
    'absolute, no class token': VIT | dict(class_token=False),
    'absolute, registers, norm before': VIT
    | dict(reg_tokens=3, no_embed_class=True, pre_norm=True, patch_size=8),
    'relative': BEIT,
    'relative, rectangular': BEIT | dict(img_size=(32, 128)),
    'relative, shared, and absolute': BEIT | SHARED,
    'rotary and absolute': dict(model_name='eva02_tiny_patch14_224', **TINY) | dict(img_size=56),
    'rotary, registers': dict(model_name='vit_small_patch16_dinov3', **TINY),
    'rotary, rectangular': dict(model_name='vit_small_patch16_dinov3', **TINY)
    | dict(img_size=(32, 128)),
    'rotary, learned in each block': dict(
        model_name='vit_small_patch16_rope_mixed_ape_224', **TINY
    ),
}


def mae(network: dict | nn.Module = VIT, decoder: dict = DECODER, **options: object) -> MAE:
    """With random weights everywhere: timm starts relative positions at 0."""
    torch.manual_seed(0)
    channels = network.get('in_chans', 3) if isinstance(network, dict) else 3
    preprocessor = PREPROCESSOR | dict(mean=[128.0] * channels, std=[64.0] * channels)
    backbone = dict(type='TimmBackbone', **network) if isinstance(network, dict) else network
    model = MAE(backbone, decoder, preprocessor, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch(model: MAE, block: int = 1, masked: int = 3) -> tuple[Tensor, Tensor]:
    """Two images, and their masks of blocks of ``block`` patches; ``masked`` of 4 are masked."""
    torch.manual_seed(1)
    rows, columns = model.grid[0] // block, model.grid[1] // block
    order = torch.rand(2, rows * columns).argsort(1)
    mask = (order < rows * columns * masked // 4).float().view(2, rows, columns)
    return torch.randn(2, len(model.data_preprocessor.mean), *model.backbone.image_size), mask


def features_of_visible(model: MAE, image: Tensor, mask: Tensor) -> Tensor:
    """Of timm's network with all its tokens, where none looks at a masked one."""
    masked = upsample_mask(mask, model.grid).flatten(1)
    masked = F.pad(masked, (model.neck.num_prefix, 0))[:, None, None]
    bias = torch.zeros_like(masked).masked_fill(masked > 0, -torch.inf)  # (B, 1, 1, P + L)
    network = model.backbone.model
    if type(network).__name__ != 'Beit':
        return network.forward_features(image, attn_mask=bias)
    tokens = network.patch_embed(image)
    tokens = torch.cat([network.cls_token.expand(len(image), -1, -1), tokens], dim=1)
    tokens = tokens if network.pos_embed is None else tokens + network.pos_embed
    shared = bias.expand(-1, -1, bias.shape[3], -1)
    shared = shared if network.rel_pos_bias is None else shared + network.rel_pos_bias()
    for block in network.blocks:
        tokens = block(tokens, shared_rel_pos_bias=shared)
    return network.norm(tokens)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_encoder_is_that_of_timm_on_the_visible_patches(name):
    model = mae(NETWORKS[name])
    image, mask = batch(model)
    prefix, network = model.neck.num_prefix, model.backbone.model
    with torch.no_grad():
        whole = network.forward_features(image)
        found = model.visible.encode(image, torch.arange(model.num_patches).expand(2, -1))
        # Of a table that all blocks share timm computes with another kernel.
        rounding = 1e-5 if 'shared' in name else 0
        torch.testing.assert_close(found, whole, rtol=0, atol=rounding)

    image.requires_grad_()
    order, number = model.order(image, mask)
    found = model.visible.encode(image, order[:, :number])
    assert found.shape[1] == prefix + model.num_patches // 4
    expected = features_of_visible(model, image, mask)
    wanted = torch.cat([expected[:, :prefix], pick(expected[:, prefix:], order[:, :number])], 1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert network.forward_features(image).equal(whole)  # and is left as it was

    (gradient,) = torch.autograd.grad(found.square().sum(), image)
    masked = upsample_mask(mask, model.backbone.image_size)[:, None].bool()
    assert not gradient.masked_select(masked).any()
    assert gradient.masked_select(~masked).all()


def published_loss(model: MAE, image: Tensor, mask: Tensor) -> Tensor:
    """Patches in their order, decoded and compared everywhere, and the mean over masked ones."""
    masked, prefix = upsample_mask(mask, model.grid).flatten(1), model.neck.num_prefix
    neck, rows = model.neck, upsample_mask(mask, model.grid).flatten(1)[..., None]
    tokens = neck.embed(features_of_visible(model, image, mask))
    patches = torch.where(rows > 0, neck.mask_token, tokens[:, prefix:]) + neck.positions
    tokens = torch.cat([tokens[:, :prefix], patches], dim=1)
    for block in neck.blocks:
        tokens = block(tokens)
    predicted = neck.predict(neck.norm(tokens))[:, prefix:]
    target = F.unfold(image, model.patch, stride=model.patch)  # (B, C · values, L)
    target = target.unflatten(1, (image.shape[1], -1)).permute(0, 3, 2, 1).flatten(2)
    if model.norm_target:
        centred = target - target.mean(2, keepdim=True)
        variance = centred.square().sum(2, keepdim=True) / (target.shape[2] - 1)
        target = centred / (variance + 1e-6).sqrt()
    return ((predicted - target).square().mean(2) * masked).sum() / masked.sum()


@pytest.mark.parametrize('name', ['absolute', 'relative, rectangular', 'rotary, registers'])
@pytest.mark.parametrize(('block', 'norm_target'), [(1, True), (2, False)])
def test_loss_and_gradients_are_those_of_the_published_formula(name, block, norm_target):
    model = mae(NETWORKS[name], norm_target=norm_target)
    image, mask = batch(model, block)
    losses = model(image=image, mask=mask, mode='loss')
    expected = published_loss(model, image, mask)
    torch.testing.assert_close(losses, {'loss_pixels': expected})
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {*dict(model.named_parameters())} - trained.keys() <= {'backbone.model.pos_embed'}
    pairs = [
        torch.autograd.grad(loss, [*trained.values()]) for loss in (*losses.values(), expected)
    ]
    for name, found, wanted in zip(trained, *pairs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=name)
        assert found.any(), name


def of_transformers(theirs: nn.Module) -> dict[str, Tensor]:
    """The weights of ViTMAEForPreTraining in the names of MAE's releases."""
    parts = dict(layernorm_before='norm1', layernorm_after='norm2')
    parts |= {'attention.o_proj': 'attn.proj', 'patch_embeddings.projection': 'patch_embed.proj'}
    parts |= {'vit.layers': 'blocks', 'vit.layernorm': 'norm', 'vit.embeddings.': ''}
    parts |= {
        'position_embeddings': 'pos_embed',
        'decoder.': '',
        'decoder_layers': 'decoder_blocks',
    }
    state = theirs.state_dict()
    for name in [name for name in state if '.q_proj.' in name]:
        joint = [state.pop(name.replace('.q_', f'.{letter}_')) for letter in 'qkv']
        state[name.replace('attention.q_proj', 'attn.qkv')] = torch.cat(joint)
    named = {}
    for name, tensor in state.items():
        for old, new in parts.items():
            name = name.replace(old, new)
        named[name] = tensor
    return named


@pytest.mark.parametrize('norm_target', [True, False])
def test_loss_and_gradients_are_those_of_transformers(norm_target):
    transformers = pytest.importorskip('transformers')
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    decoder = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    decoder = {f'decoder_{k}': v for k, v in (decoder | dict(intermediate_size=64)).items()}
    sizes |= dict(image_size=64, patch_size=16, norm_pix_loss=norm_target, layer_norm_eps=1e-6)
    theirs = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**sizes, **decoder)).eval()
    # Version 5 leaves positions at 0 unless a file is read.
    theirs.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    theirs.vit.embeddings.initialize_weights()
    theirs.decoder.initialize_weights(16)
    ours = MAE(dict(type='TimmBackbone', **VIT), DECODER, PREPROCESSOR, norm_target=norm_target)
    found = ours.backbone.model.pos_embed, ours.neck.positions
    wanted = theirs.vit.embeddings.position_embeddings, theirs.decoder.decoder_pos_embed[0, 1:]
    torch.testing.assert_close(found, wanted)
    assert load_weights(ours, to_a2mim(of_transformers(theirs)), COMPLETE).complete

    image, noise = torch.randn(2, 3, 64, 64), torch.rand(2, 16)
    outputs = theirs(image, noise=noise)
    mask = outputs.mask.view(2, 4, 4)
    assert mask.sum() == 24
    loss = ours(image=image, mask=mask, mode='loss')['loss_pixels']
    torch.testing.assert_close(loss, outputs.loss, rtol=1e-5, atol=1e-6)
    outputs.loss.backward()
    loss.backward()
    for name, module in (
        ('vit.layers.0.mlp.fc1', ours.backbone.model.blocks[0].mlp.fc1),
        ('vit.embeddings.patch_embeddings.projection', ours.backbone.model.patch_embed.proj),
        ('decoder.decoder_embed', ours.neck.embed),
        ('decoder.decoder_pred', ours.neck.predict),
    ):
        expected = theirs.get_submodule(name).weight.grad
        torch.testing.assert_close(module.weight.grad, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.neck.mask_token.grad, theirs.decoder.mask_token.grad)
    reconstruction = ours.predict(image, mask)['reconstruction']
    patches = theirs.patchify(image)
    mean, deviation = patches.mean(2, keepdim=True), (patches.var(2, keepdim=True) + 1e-6).sqrt()
    logits = outputs.logits * deviation + mean if norm_target else outputs.logits
    torch.testing.assert_close(reconstruction, theirs.unpatchify(logits), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('network', [VIT, BEIT, BEIT | SHARED, NETWORKS['rotary, registers']])
def test_gradient_checkpointing_changes_nothing(network):
    plain, saving = mae(network), mae(network | dict(grad_checkpointing=True))
    gradients = []
    for model in (plain, saving.train()):
        model(*batch(model), mode='loss')['loss_pixels'].backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        assert model.visible.index is None
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_waits_for_no_device_and_a_copy_is_independent():
    for network in (VIT, BEIT, NETWORKS['rotary, registers']):
        model = mae(network).train()
        image, mask = batch(model)
        twin = copy.deepcopy(model)
        with no_host_sync():
            loss = model(image=image, mask=mask, mode='loss', num_masked=12)['loss_pixels']
            loss.backward()
        nn.init.zeros_(model.backbone.model.patch_embed.proj.weight)
        assert twin(image=image, mask=mask, mode='loss')['loss_pixels'].equal(loss)


def test_pictures_show_what_is_predicted_where_it_is():
    for network, block in ((VIT, 1), (NETWORKS['absolute, rectangular, 5 bands'], 2)):
        for norm_target in (True, False):
            model = mae(network, norm_target=norm_target)
            image, mask = batch(model, block)
            predicted = model.target(image)[0]
            model.neck.register_forward_hook(lambda _, call, out, all=predicted: pick(all, call[1]))
            pictures = model(image=image, mask=mask, mode='predict')
            torch.testing.assert_close(pictures['reconstruction'], image)
            assert model(image).shape == (2, 32, *model.grid)


def test_weights_begin_as_published_and_positions_stay():
    model = MAE(dict(type='TimmBackbone', **VIT), DECODER | dict(width=64), PREPROCESSOR)
    positions = model.backbone.model.pos_embed
    assert not positions.requires_grad and not positions[0, 0].any()
    # Of the patch in row 1, column 2: width 32, so that the second of 8 rates is 10000^(-1/8).
    patch, rate = positions[0, 1 + 4 + 2], 10000 ** (-1 / 8)
    expected = [of(rate * place) for place in (2, 1) for of in (math.sin, math.cos)]
    torch.testing.assert_close(patch[1::8], torch.tensor(expected))
    bound = (6 / (32 + 64)) ** 0.5
    assert 0.95 * bound < model.neck.embed.weight.abs().max() < bound
    assert 0.01 < model.neck.mask_token.std() < 0.03 and not model.neck.embed.bias.any()
    own = timm.create_model('vit_tiny_patch16_224', **TINY)
    kept = own.pos_embed.clone()
    model = MAE(TimmBackbone(own, img_size=64), DECODER, PREPROCESSOR, fixed_positions=False)
    assert model.backbone.model.pos_embed.equal(kept) and own.pos_embed.requires_grad
    assert model(*batch(model), mode='loss')['loss_pixels'] > 0


@pytest.mark.parametrize('module', ['', 'module.'])
def test_a_release_loads_with_its_decoder_and_continues(module, tmp_path):
    config = Config(
        dict(
            model=dict(
                type='MAE',
                data_preprocessor=PREPROCESSOR,
                neck=DECODER,
                backbone=dict(type='TimmBackbone', **VIT),
            )
        )
    )
    wanted = mae()
    state = wanted.state_dict()
    old = {
        'neck.blocks': 'decoder_blocks',
        'neck.predict': 'decoder_pred',
        'neck.embed': 'decoder_embed',
        'neck.norm': 'decoder_norm',
        'neck.mask_token': 'mask_token',
        'backbone.model.': '',
    }
    released = {}
    for key, tensor in state.items():
        for ours, theirs in old.items():
            key = key.replace(ours, theirs)
        released[module + key] = tensor
    released[f'{module}decoder_pos_embed'] = torch.zeros(1, 17, 16)
    path = tmp_path / 'mae_visualize_vit.pth'
    torch.save(dict(model=released), path)
    config.dump(tmp_path / 'config.py')
    model = a2mim.load_model(path, config=tmp_path / 'config.py')
    assert all(model.state_dict()[key].equal(tensor) for key, tensor in state.items())
    other = mae()
    assert load_weights(other, fit_model(dict(model=released), other), COMPLETE).complete
    # A backbone alone, as ever, for what has no such decoder; and no decoder of another size.
    assert isinstance(backbone_of(path), TimmBackbone)
    with pytest.raises(ValueError, match='the decoder'):
        fit_model(dict(model=released), mae(VIT, DECODER | dict(width=32)))
    del released[f'{module}decoder_embed.weight']
    with pytest.raises(ValueError, match='no decoder'):
        fit_model(dict(model={k: v for k, v in released.items() if 'decoder' not in k}), other)


def backbone_of(path: Path) -> nn.Module:
    config = dict(backbone=dict(type='TimmBackbone', mask_after='patch_embed', **VIT))
    config |= dict(type='A2MIM', data_preprocessor=PREPROCESSOR)
    Config(dict(model=config)).dump(path.parent / 'other.py')
    return a2mim.load_model(path, config=path.parent / 'other.py')


@pytest.mark.parametrize(
    ('network', 'options', 'words'),
    [
        (dict(model_name='resnet10t'), {}, ('ResNet', "type='A2MIM'", '--method a2mim')),
        (dict(model_name='convnext_atto'), {}, ('ConvNeXt', "type='A2MIM'")),
        (dict(model_name='swin_tiny_patch4_window7_224'), {}, ('SwinTransformer', "type='A2MIM'")),
        (dict(model_name='vit_tiny_r_s16_p8_224'), {}, ('HybridEmbed', 'masked ones too')),
        (VIT | dict(patch_drop_rate=0.5), {}, ('patch_drop_rate',)),
        (NETWORKS['rotary, registers'] | dict(patch_drop_rate=0.5), {}, ('patch_drop_rate',)),
        (VIT | dict(mask_after='patch_embed'), {}, ('mask_after', 'take')),
        (VIT | dict(pretrained=True), {}, ('fixed_positions=False',)),
        (VIT, dict(decoder=DECODER | dict(num_heads=3)), ('num_heads=3', 'width=16')),
        (VIT, dict(decoder=DECODER | dict(width=18)), ('width=18', 'multiple of 4')),
        (VIT, dict(decoder=DECODER | dict(width=4 * 10**5)), ('width=400000', 'this machine has')),
        (VIT, dict(decoder=DECODER | dict(width=4 * 10**9)), ('memory', '--method a2mim')),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(network, options, words):
    with pytest.raises(ValueError) as error:
        mae(network, **options)
    text = str(error.value)
    assert '\n' not in text and all(word in text for word in words), text


@pytest.mark.parametrize(
    ('size', 'block', 'ratio', 'words'),
    [
        (64, 16, 1.0, ('16 of 16', 'no visible patch', '0.062 to 0.937')),
        (64, 32, 0.9, ('4 of 4', 'no visible patch')),
        (64, 16, 0.0, ('nothing to predict',)),
        (64, 8, 0.75, ('8×8 blocks', '16×16 pixels', 'block sizes that fit: 16, 32, 64')),
        ((48, 64), 16, 0.75, ('48×64', '64×64', 'img_size')),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_the_first_step(size, block, ratio, words):
    model = mae()
    mask_config = dict(type='BlockMask', image_size=size, block_size=block, ratio=ratio)
    mask = TRANSFORMS.build(mask_config)
    with pytest.raises(ValueError) as error:
        check_mask(model, mask)
    text = str(error.value)
    assert '\n' not in text and all(word in text for word in words), text
    if 'to 0.' in text:  # which is one that fits
        ratio_that_fits = float(text.rsplit(' to ', 1)[1].split(',')[0])
        check_mask(model, TRANSFORMS.build({**mask_config, 'ratio': ratio_that_fits}))
    drawn = torch.zeros(2, *mask.grid)
    drawn.view(2, -1)[:, : round(ratio * drawn[0].numel() + 0.49)] = 1
    size = size if isinstance(size, tuple) else (size, size)
    with pytest.raises(ValueError):
        model(image=torch.randn(2, 3, *size), mask=drawn, mode='loss')


def test_masks_of_different_counts_and_other_axes_are_refused():
    model = mae()
    image, mask = batch(model)
    mask[0] = 1 - mask[0]
    with pytest.raises(ValueError, match='from 4 to 12 blocks'):
        model(image=image, mask=mask, mode='loss')
    for wrong in (mask[:, None], mask[:1]):
        with pytest.raises(ValueError, match='must be'):
            model(image=image, mask=wrong, mode='loss')
    with pytest.raises(ValueError, match='needs a mask'):
        model(image=image, mode='loss')
