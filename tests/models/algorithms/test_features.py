"""Feature targets: loss and average are the published ones, runs work, bad input is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor, nn

import a2mim
from a2mim.engine.config_check import check_mask
from a2mim.models import FeatureMIM
from a2mim.models.features import colours
from a2mim.registry import TRANSFORMS
from a2mim.weights.names import find_backbone
from exact_run import SaveAt, differing, run, state
from host_sync import no_host_sync
from toy_run import load_tool, loader, toy_config, write_images

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0, 120, 100], std=[64.0, 60, 50])
HEAD = dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0))
NECK = dict(type='PixelShuffleDecoder')
TINY = dict(img_size=64, depth=3, embed_dim=32, num_heads=2)
VIT = dict(model_name='vit_tiny_patch16_224', mask_after='patch_embed', **TINY)
BEIT = dict(model_name='beit_base_patch16_224', mask_after='blocks.0', **TINY)
SMALL = dict(output_stride=8, channels=(8, 16, 24, 32))
RESNET = dict(model_name='resnet10t', mask_after='layer3', zero_init_last=False)
RESNET |= dict(channels=(8, 16, 24, 32))
CONVNEXT = dict(model_name='test_convnext', mask_after='stages.1')
TEACHER = dict(model_name='vit_tiny_patch16_224', img_size=64, depth=2, embed_dim=16, num_heads=2)


def build(backbone: dict = VIT, teacher: object = 'ema', **options: object) -> FeatureMIM:
    """With random weights everywhere, an average that differs from the network among them."""
    torch.manual_seed(0)
    if isinstance(teacher, dict):
        teacher = dict(type='TimmBackbone', **teacher)
    backbone = dict(type='TimmBackbone', **backbone)
    model = FeatureMIM(backbone, NECK, HEAD, PREPROCESSOR, teacher=teacher, **options)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(blocks: tuple[int, int] = (2, 2), size: tuple[int, int] = (64, 64)) -> dict[str, Tensor]:
    """Three images with as many masked blocks each."""
    torch.manual_seed(1)
    mask = torch.rand(3, blocks[0] * blocks[1]).argsort(1) < blocks[0] * blocks[1] // 2
    return dict(image=torch.randn(3, 3, *size), mask=mask.float().view(3, *blocks))


def normalized(features: Tensor) -> Tensor:
    """(B, L, D), each row with zero mean and unit variance."""
    centred = features - features.mean(2, keepdim=True)
    return centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()


def rows(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def outputs_of(network: nn.Module, image: Tensor, names: list[str]) -> list[Tensor]:
    """(B, L, D) of modules, without the class token of a ViT."""
    found: list[Tensor] = []
    modules = [network.get_submodule(name) for name in names]
    hooks = [m.register_forward_hook(lambda _, __, out: found.append(out)) for m in modules]
    network(image)
    for hook in hooks:
        hook.remove()
    return [rows(x) if x.ndim == 4 else x[:, 1:] for x in found]


def published_loss(model: FeatureMIM, names: list[str], image: Tensor, mask: Tensor) -> Tensor:
    """Smooth L1, beta 2, at masked positions, in loops."""
    with torch.no_grad():
        layers = outputs_of(model.teacher.network.model, image, names)
        target = normalized(sum(normalized(x) for x in layers) / len(layers))
    side = image.shape[2] // mask.shape[1]
    hidden = mask.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None].bool()
    filled = torch.where(hidden, image.mean((2, 3), keepdim=True), image)
    predicted = model.neck(model.backbone(filled, mask))
    height = round(target.shape[1] ** 0.5)
    if predicted.shape[2] > height:
        factor = predicted.shape[2] // height
        predicted = predicted.unfold(2, factor, factor).unfold(3, factor, factor).mean((4, 5))
    predicted, errors = rows(predicted), []
    for number, one in enumerate(mask):
        repeated = torch.kron(one, torch.ones(height // one.shape[0], height // one.shape[1]))
        for place in repeated.flatten().nonzero().flatten().tolist():
            d = (predicted[number, place] - target[number, place]).abs()
            errors.append(torch.where(d < 2, d * d / 4, d - 1).mean())
    return torch.stack(errors).mean()


BLOCKS = ['blocks.0', 'blocks.1', 'blocks.2']


@pytest.mark.parametrize(
    ('backbone', 'options', 'names', 'blocks'),
    [
        (VIT, {}, BLOCKS, (4, 4)),  # three blocks, not six
        (VIT | dict(mask_token=dict(mode='replace')), dict(layers=2), BLOCKS[1:], (2, 2)),
        (BEIT, dict(layers=1), BLOCKS[2:], (2, 2)),
        (RESNET, {}, ['layer4'], (2, 2)),
        (CONVNEXT, {}, ['stages.3'], (2, 2)),
        (RESNET, dict(teacher=TEACHER), BLOCKS[:2], (2, 2)),  # one feature covers four
        (VIT, dict(teacher=RESNET | dict(mask_after=None)), ['layer4'], (2, 2)),
        (CONVNEXT, dict(teacher=TEACHER, layers=1), BLOCKS[1:2], (1, 2)),
    ],
)
def test_loss_and_gradients_are_those_of_the_published_formula(backbone, options, names, blocks):
    model, data = build(backbone, **options), batch(blocks)
    model.eval()  # of the average, too, so that the same running statistics count
    if blocks == (1, 2):
        data['mask'] = data['mask'].expand(-1, 2, -1)
    losses = model(**data, mode='loss')
    expected = published_loss(model, names, **data)
    torch.testing.assert_close(losses, {'loss_spatial': expected}, rtol=1e-5, atol=1e-6)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith('teacher') for name in trained)
    pairs = [torch.autograd.grad(x, [*trained.values()]) for x in (*losses.values(), expected)]
    for name, found, wanted in zip(trained, *pairs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=name)
        assert found.any(), name


def test_a_frozen_teacher_gets_the_normalisation_of_its_weights(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda *a, pretrained=False, **k: create(*a, **k))
    model = build(VIT, TEACHER | dict(pretrained=True))  # mean and deviation 0.5
    pixels = 255 * torch.rand(2, 3, 64, 64)
    image = model.data_preprocessor(dict(image=pixels))['image']
    own = build(VIT, TEACHER).teacher
    own.load_state_dict({**model.teacher.state_dict(), 'scale': own.scale, 'shift': own.shift})
    torch.testing.assert_close(model.teacher(image), own((pixels / 255 - 0.5) / 0.5))
    # A tag names weights that are read from a file; of other channels timm knows no statistics.
    tagged = dict(model_name='vit_tiny_patch16_224.augreg_in21k')
    assert build(VIT, TEACHER | tagged).teacher.scale.equal(model.teacher.scale)
    for channels in (1, 5):
        bands = dict(type='ImagePreprocessor', mean=[9.0] * channels, std=[5.0] * channels)
        nets = [
            dict(type='TimmBackbone', **net, in_chans=channels)
            for net in (VIT, TEACHER | dict(pretrained=True))
        ]
        model = FeatureMIM(nets[0], NECK, HEAD, bands, teacher=nets[1])
        data = batch() | dict(image=torch.randn(3, channels, 64, 64))
        assert model.teacher.scale.eq(1).all() and model(**data, mode='loss')['loss_spatial'] > 0


@pytest.mark.parametrize('order', ['mmengine', 'before backward', 'set to zero'])
@pytest.mark.parametrize('accumulated', [1, 2])
@pytest.mark.parametrize('fused', [True, False])
def test_the_average_follows_each_step_of_the_optimiser_once(order, accumulated, fused):
    model = build(RESNET | dict(drop_path_rate=0.3), decay=0.9).train()
    teacher, student = model.teacher.network.model, model.backbone.model
    expected = [p.clone() for p in teacher.parameters()]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=fused
    )
    for call in range(3 * accumulated):
        last = (call + 1) % accumulated == 0
        if call % accumulated == 0:  # at the start the network differs from its average
            pairs = zip(expected, student.parameters(), strict=True)
            expected = [0.9 * mean + 0.1 * p.detach() for mean, p in pairs]
        loss = model(**batch(), mode='loss')['loss_spatial']
        for mean, p in zip(teacher.parameters(), expected, strict=True):
            torch.testing.assert_close(mean, p)
        if order == 'before backward' and call % accumulated == 0:
            optimizer.zero_grad()
        loss.backward()
        if last:
            optimizer.step()
            if order != 'before backward':
                optimizer.zero_grad(set_to_none=order == 'mmengine')
    before = [p.clone() for p in teacher.parameters()]
    model.eval()(**batch(), mode='loss')
    assert all(map(torch.equal, before, teacher.parameters()))


def test_the_average_has_no_dropout_and_statistics_of_whole_images():
    model = build(RESNET | dict(drop_path_rate=0.5)).train()
    image = batch()['image']
    first = model.teacher(image)
    assert first.equal(model.teacher(image)) and not first.requires_grad
    norms = [m for m in model.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(m.training for m in norms)
    assert not any(m.training for m in model.teacher.modules() if not isinstance(m, nn.BatchNorm2d))
    frozen = build(VIT, RESNET | dict(mask_after=None)).train().teacher
    assert not any(m.training for m in frozen.modules())


@pytest.mark.parametrize('backbone', [VIT, BEIT | dict(grad_checkpointing=True), RESNET])
def test_a_step_waits_for_no_device_and_a_copy_is_independent(backbone):
    model = build(backbone).train()
    data, twin = batch(), copy.deepcopy(model)
    with no_host_sync():
        model(**data, mode='loss')['loss_spatial'].backward()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert twin(**data, mode='loss')['loss_spatial'] > 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(decay=1.0), ('decay=1.0', 'below 1', '0.9998')),
        (dict(decay=-0.1), ('decay=-0.1', 'from 0')),
        (dict(layers=0), ('layers=0', 'at least 1')),
        (dict(teacher='resnet18'), ("teacher='resnet18'", "'ema'", 'pretrained=True')),
        (dict(teacher=dict(model_name='vit_tiny_patch16')), ('no model', 'vit_tiny_patch16_224')),
        (dict(teacher=TEACHER | dict(in_chans=1)), ('of 1 channels', 'set in_chans=3')),
        (dict(teacher=TEACHER | dict(patch_size=14, img_size=56)), ('16 pixels', 'teacher 14')),
        (dict(teacher=dict(model_name='test_vit', num_classes=5)), ('returns no feature map',)),
        (dict(teacher=dict(model_name='resnet10t', out_indices=(3,))), ('returns no feature map',)),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError) as error:
        build(VIT, **options)
    text = str(error.value)
    assert '\n' not in text and all(word in text for word in words), text


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match=r'no mask token: set mask_after.*blocks'):
        build({key: value for key, value in VIT.items() if key != 'mask_after'})
    with pytest.raises(ValueError, match='leave target=HOGTarget out'):
        head = HEAD | dict(target=dict(type='HOGTarget'))
        FeatureMIM(dict(type='TimmBackbone', **VIT), NECK, head, PREPROCESSOR)
    model = build(RESNET, TEACHER)
    mask = dict(type='BlockMask', image_size=96, block_size=32, ratio=0.5)
    with pytest.raises(
        ValueError,
        match=r'96×96.*img_size=\(96, 96\) of the teacher, or take A2MIM',
    ):
        check_mask(model, TRANSFORMS.build(mask))
    check_mask(model, TRANSFORMS.build(mask | dict(image_size=64)))
    model = build(RESNET)
    with pytest.raises(ValueError, match=r'2×2 features.*4×4 blocks.*multiple of its stride 32'):
        check_mask(model, TRANSFORMS.build(mask | dict(image_size=64, block_size=16)))
    with pytest.raises(ValueError, match='needs a mask'):
        model(batch()['image'], mode='loss')


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_a_picture_has_the_principal_components_of_the_target(channels):
    torch.manual_seed(0)
    target, image = torch.randn(2, 7, 4, 6), torch.randn(2, channels, 8, 12)
    predicted = target.clone()
    predicted[0] = float('nan')  # training has diverged
    drawn, other = colours(target, predicted, image)
    assert drawn.shape == other.shape == image.shape and other.isfinite().all()
    assert torch.equal(drawn[1], other[1])
    rows = target.permute(0, 2, 3, 1).reshape(-1, 7).numpy()
    expected = PCA(channels).fit_transform(rows).reshape(2, 4, 6, channels)
    low, high = (image.amin((1, 2, 3)), image.amax((1, 2, 3)))
    for i in range(channels):
        share = (drawn[:, i, ::2, ::2] - low.view(2, 1, 1)) / (high - low).view(2, 1, 1)
        assert share.min() > -1e-6 and share.max() < 1 + 1e-6
        within = (share > 0.01) & (share < 0.99)
        found, wanted = share[within].numpy(), torch.tensor(expected[..., i])[within].numpy()
        assert abs(np.corrcoef(found, wanted)[0, 1]) > 0.9999


def test_a_picture_is_drawn_in_mixed_precision():
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        pictures = build(RESNET).eval()(**batch(), mode='predict')
    assert pictures['target'].dtype == torch.float32
    assert all(picture.isfinite().all() for picture in pictures.values())


def test_a_picture_of_few_features_has_the_channels_of_the_image():
    image = torch.randn(1, 3, 8, 8)
    drawn, _ = colours(torch.randn(1, 7, 1, 2), torch.randn(1, 7, 1, 2), image)
    assert drawn.shape == image.shape
    assert torch.equal(drawn[:, 2], image.amin().expand(1, 8, 8))


def config(data: Path, work_dir: Path, model: dict, **changes: object) -> Config:
    """Two epochs of three steps on images of 32 pixels, two batches a step."""
    train = loader(data, 2, shuffle=True)
    train['dataset'] = dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root=str(data)),
        pipeline=[dict(type='RandomFlip')],
        mask=dict(type='BlockMask', image_size=32, block_size=8, ratio=0.6),
    )
    model = dict(type='FeatureMIM', data_preprocessor=PREPROCESSOR, neck=NECK, head=HEAD, **model)
    hooks = [
        dict(type='ReconstructionHook', interval=1),
        dict(type='UnlabelledProbeHook', interval=1),
    ]
    return toy_config(
        data,
        model=dict(_delete_=True, **model),
        train_dataloader=train,
        **dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg')),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        optim_wrapper__accumulative_counts=2,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        custom_hooks=hooks,
        **{'train_cfg__max_epochs': 2} | changes,
    )


@pytest.mark.integration
def test_a_run_resumes_bit_for_bit_draws_features_and_exports_to_timm(tmp_path):
    data = tmp_path / 'images'
    write_images(data, 4)
    backbone = dict(type='TimmBackbone', drop_path_rate=0.2, **RESNET | SMALL)
    model = dict(backbone=backbone, decay=0.8)
    runner, _ = run(config(data, tmp_path / 'whole', model), SaveAt((4,)))
    start = str(tmp_path / 'whole/iter_4.pth')
    resumed, _ = run(config(data, tmp_path / 'rest', model, load_from=start, resume=True))
    assert runner.iter == resumed.iter == 12
    assert not differing(state(runner), state(resumed))
    drawn = sorted(path.name for path in (tmp_path / 'whole/reconstruction').iterdir())
    assert drawn == ['epoch_0.png', 'epoch_1.png', 'epoch_2.png']
    log = next((tmp_path / 'whole').glob('*/*.log')).read_text()
    assert 'probe/effective_rank' in log and 'masked_l1:' not in log

    checkpoint = tmp_path / 'whole/epoch_2.pth'
    loaded = a2mim.load_model(checkpoint)
    assert isinstance(loaded, FeatureMIM) and loaded.input_spec.block_size == 8
    pictures = a2mim.reconstruct(loaded, Image.open(data / 'red/0.png'))
    assert pictures['target'].shape == pictures['reconstruction'].shape == (32, 32, 3)
    student, teacher = loaded.backbone.model.state_dict(), loaded.teacher.network.model.state_dict()
    assert not student['conv1.0.weight'].equal(teacher['conv1.0.weight'])
    extract = load_tool('extract_backbone_weights', 'tools/model_converters')
    extract.main([str(checkpoint), str(tmp_path / 'backbone.pth')])
    weights = torch.load(tmp_path / 'backbone.pth', weights_only=True)
    network = timm.create_model('resnet10t', num_classes=0, **SMALL)
    network.load_state_dict(weights.get('state_dict', weights))
    assert network.conv1[0].weight.equal(student['conv1.0.weight'])
    # Which is what a run starts from, too; and another run has it as its frozen teacher.
    first = dict(type='Pretrained', checkpoint=str(checkpoint))
    backbone = dict(type='TimmBackbone', **RESNET | SMALL, init_cfg=first)
    again = dict(backbone=backbone, teacher={**backbone, 'mask_after': None})
    runner, _ = run(config(data, tmp_path / 'frozen', again, train_cfg__max_epochs=1))
    found = runner.model.teacher.network.model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in student.items())


def test_the_network_is_taken_from_a_checkpoint_and_not_its_average():
    model = build(RESNET)
    content = dict(state_dict=model.state_dict())
    for own in (None, {*model.backbone.model.state_dict()}):
        found = find_backbone(content, own).state
        assert all(torch.equal(found[k], v) for k, v in model.backbone.model.state_dict().items())


def test_a_teacher_without_weights_is_warned_of(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr('a2mim.models.teacher.print_log', lambda text, **_: said.append(text))
    build(VIT)
    build(VIT, TEACHER | dict(init_cfg=None))
    assert not said
    build(VIT, TEACHER)
    build(VIT, TEACHER | dict(pretrained=False))
    assert len(said) == 2 and 'random weights: set pretrained=True' in said[0]
