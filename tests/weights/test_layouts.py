"""Every layout of the table in docs/weights.md loads, or is refused, as the table says."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from a2mim.weights.families import FAMILIES
from a2mim.weights.fit import load_backbone
from a2mim.weights.names import find_backbone
from a2mim.weights.safe_load import choose_weights, load_file, trust_checkpoints

PAGE = Path(__file__).parents[2] / 'docs' / 'weights.md'
ROWS = dict(re.findall(r'^\| (.+) \| ((?:loads|refused: ).*) \|$', PAGE.read_text(), re.MULTILINE))
SMALL = dict(embed_dim=24, depth=2, num_heads=2, img_size=64, num_classes=0)
State = dict[str, Tensor]
# timm's interpolation indexes with a list.
pytestmark = pytest.mark.filterwarnings('ignore:.*(bucketize|searchsorted|non-tuple)')


def vit(name: str = 'vit_tiny_patch16_224', seed: int = 0, **options: object) -> nn.Module:
    """A small timm model, every tensor random."""
    model = timm.create_model(name, **{**SMALL, **options})
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) / 5)
    return model


def below(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {f'{prefix}{key}': tensor for key, tensor in state.items()}


MODEL = vit()
A, B = MODEL.state_dict(), vit(seed=1).state_dict()
HEADS = {'head.mlp.0.weight': torch.ones(3, 3), 'fc.bias': torch.ones(2)}
OPTIMIZER = {'state': {0: {'exp_avg': torch.ones(9)}}, 'param_groups': [{'lr': 0.1}]}
# Content of a file that holds the weights A of MODEL.
SAME: dict[str, object] = {
    'a state dict': A,
    '`{state_dict}`': {'state_dict': A, 'epoch': 3, 'optimizer': OPTIMIZER},
    '`{model}`': {'model': A, 'scaler': {'scale': torch.ones(1)}},
    '`{model: {state_dict}}`': {'model': {'state_dict': A, 'name': 'vit'}},
    '`{model_state_dict}`': {'model_state_dict': A, 'optimizer_state_dict': OPTIMIZER},
    '`{net}`': {'net': A, 'acc': 90.1},
    '`{weights}`': {'weights': A},
    '`{ema}`': {'ema': A, 'updates': 10},
    'weights in half precision': {key: tensor.half() for key, tensor in A.items()},
    '`module.…`': below('module.', A),
    '`_orig_mod.…`': below('_orig_mod.', A),
    '`module._orig_mod.…`': below('module._orig_mod.', A),
    '`model._orig_mod.…`': below('model._orig_mod.', A) | HEADS,
    '`backbone.module.…`': below('backbone.module.', A) | HEADS,
    '`net.…`': below('net.', A),
    '`encoder.…`': below('encoder.', A) | HEADS,
    '`model.backbone.…`': below('model.backbone.', A) | below('model.', HEADS),
    '`backbone.model.…`, a checkpoint of this package': {
        'meta': {'epoch': 1},
        'state_dict': below('backbone.model.', A) | {'backbone.mask_token.token': torch.ones(24)},
    },
    'Lightning: `{state_dict}` with `model.…`, beside callbacks and optimizers': {
        'pytorch-lightning_version': '2.5.0',
        'state_dict': below('model.', A) | below('head.', HEADS),
        'callbacks': {'EMA': {'weights': B}},
        'optimizer_states': [OPTIMIZER],
    },
    'BYOL: `online_encoder.…` and `target_encoder.…`': (
        below('target_encoder.net.', B) | below('online_encoder.net.', A)
    ),
    'MoCo: `encoder_q.…` and `encoder_k.…`': {
        'state_dict': below('module.encoder_k.', B) | below('module.encoder_q.', A)
    },
    'MoCo v3: `base_encoder.…` and `momentum_encoder.…`': {
        'state_dict': below('module.momentum_encoder.', B) | below('module.base_encoder.', A)
    },
    "MAE's release, with its decoder": {
        'model': A | {'mask_token': torch.ones(1), 'decoder_blocks.0.norm1.weight': torch.ones(3)}
    },
}
# Content with the averaged weights A and the raw weights B.
TWO = {
    "timm's script: `{arch, state_dict, state_dict_ema}`": dict(
        arch='vit', state_dict=B, state_dict_ema=A
    ),
    "torchvision's script: `{model, model_ema}`, the average below `module.`": dict(
        model=B, model_ema=below('module.', A) | {'n_averaged': torch.tensor(3)}
    ),
    'mmengine: `{meta, state_dict, ema_state_dict}`': dict(
        meta=dict(epoch=1),
        state_dict=below('backbone.model.', A),
        ema_state_dict=below('module.backbone.model.', B) | {'steps': torch.tensor(9)},
    ),
    'OpenMixup: the average beside raw weights `ema_…`': dict(
        state_dict=below('backbone.', A)
        | {f'ema_backbone_{key.replace(".", "_")}': tensor for key, tensor in B.items()}
    ),
    'DINO: `{student, teacher}`': dict(
        student=below('module.backbone.', B), teacher=below('backbone.', A), optimizer=OPTIMIZER
    ),
    'DINO: `student.backbone.…` and `teacher.backbone.…`': dict(
        model=below('student.backbone.', B) | below('teacher.backbone.', A)
    ),
    "Lightly's DINO: `student_backbone.…` and `teacher_backbone.…`": dict(
        state_dict=below('student_backbone.', B) | below('teacher_backbone.', A)
    ),
}


def write(content: object, folder: Path) -> Path:
    torch.save(content, folder / 'file.pth')
    return folder / 'file.pth'


def taken(path: Path, model: nn.Module) -> State:
    """What ``model`` has after it has read ``path``."""
    load_backbone(model, load_file(path), path)
    return model.state_dict()


def equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(found[key], tensor.to(found[key])) for key, tensor in expected.items())


@pytest.mark.parametrize('row', SAME)
def test_a_file_with_one_set_of_weights_loads(row, tmp_path):
    assert ROWS[row] == 'loads'
    expected = A if 'half' not in row else SAME[row]
    assert equal(taken(write(SAME[row], tmp_path), vit(seed=2)), expected)


def test_a_safetensors_file_loads(tmp_path):
    assert ROWS['a `.safetensors` file'] == 'loads'
    save_file(A, tmp_path / 'a.safetensors')
    assert equal(taken(tmp_path / 'a.safetensors', vit(seed=2)), A)


@pytest.mark.parametrize('row', TWO)
def test_of_two_sets_of_weights_the_average_is_taken_and_the_other_on_demand(row, tmp_path):
    assert ROWS[row] == 'loads the average, or with `--weights raw` the other'
    path = write(TWO[row], tmp_path)
    assert equal(taken(path, vit(seed=2)), A)
    averaged = find_backbone(load_file(path), A.keys())
    assert (averaged.kind, len(averaged.others)) == ('averaged', 1)
    assert '--weights raw' in averaged.choice
    assert find_backbone(load_file(path)).path == averaged.path  # without a model to compare with
    with choose_weights('raw'):
        assert equal(taken(path, vit(seed=2)), B)


@pytest.mark.parametrize('kind', ['average', ''])
def test_another_choice_is_refused(kind):
    with pytest.raises(ValueError, match='must be one of averaged, raw'), choose_weights(kind):
        pass


DINO = dict(patch_size=14, img_size=56)
REG4 = 'vit_small_patch14_reg4_dinov2'
TOKEN = {'mask_token': torch.ones(1, 24)}


def with_registers(seed: int = 0) -> State:
    """As in the release: positions of class token and patches, and ``register_tokens``."""
    state = vit('vit_small_patch14_dinov2', seed, **DINO).state_dict()
    return {**state, **TOKEN, 'register_tokens': torch.randn(1, 4, 24)}


def giant() -> State:
    state = vit('vit_giant_patch14_dinov2', **DINO).state_dict()
    names = {'fc1': 'w12', 'fc2': 'w3'}
    return {re.sub('fc[12]', lambda m: names[m[0]], k): v for k, v in state.items()} | TOKEN


# Content, and the model that it is for: what timm makes of the file by its own rule is right.
ADAPTED: dict[str, tuple[Callable[[], State], Callable[[], nn.Module]]] = {
    'DeiT distilled, into a distilled model': (
        lambda: vit('deit_tiny_distilled_patch16_224').state_dict(),
        lambda: vit('deit_tiny_distilled_patch16_224', 2),
    ),
    "DINOv2's release": (
        lambda: vit('vit_small_patch14_dinov2', **DINO).state_dict() | TOKEN,
        lambda: vit('vit_small_patch14_dinov2', 2, patch_size=14, img_size=28),
    ),
    "DINOv2's release with registers, into a model with registers": (
        with_registers,
        lambda: vit(REG4, 2, patch_size=14, img_size=28),
    ),
    "DINOv2-giant's release (`w12`, `w3`)": (
        giant,
        lambda: vit('vit_giant_patch14_dinov2', 2, **DINO),
    ),
    'another image size': (lambda: A, lambda: vit(seed=2, img_size=(96, 48))),
    'another patch size': (lambda: A, lambda: vit(seed=2, patch_size=8)),
}


@pytest.mark.parametrize('row', ADAPTED)
def test_what_timm_adapts_is_adapted(row, tmp_path):
    assert ROWS[row] == 'loads'
    state, model = (make() for make in ADAPTED[row])
    expected = checkpoint_filter_fn(dict(state), model)
    for content in (state, {'teacher': below('backbone.', state)}):
        assert equal(taken(write(content, tmp_path), ADAPTED[row][1]()), expected)
    without = {key: tensor for key, tensor in state.items() if key != 'mask_token'}
    assert equal(taken(write(without, tmp_path), ADAPTED[row][1]()), expected)


@pytest.mark.parametrize('name', ['resnet10t', 'test_convnext', 'vit_tiny_patch16_224'])
@pytest.mark.parametrize('row, before, after', [
    ('RGB into 1 channel', 3, 1),
    ('RGB into 4 channels', 3, 4),
    ('RGB into 12 channels', 3, 12),
    ('4 channels into RGB', 4, 3),
])  # fmt: skip
def test_the_first_convolution_gets_other_channels(name, row, before, after, tmp_path):
    assert ROWS[row] == 'loads'
    options = dict(num_classes=0) if 'vit' not in name else SMALL
    source = timm.create_model(name, in_chans=before, **options)
    target = timm.create_model(name, in_chans=after, **options)
    key = f'{source.pretrained_cfg["first_conv"]}.weight'
    state = source.state_dict()
    state[key] = torch.rand_like(state[key])
    expected = {**state, key: adapt_input_conv(after, state[key], base_chans=before)}
    assert expected[key].shape[1] == after
    assert equal(taken(write(state, tmp_path), target), expected)


def test_a_head_and_its_norm_may_be_the_models_own(tmp_path):
    assert ROWS['another number of classes'] == 'loads'
    assert ROWS['another pooling, with a norm of its own, in a ViT of one block'] == 'loads'
    for ours, theirs in (('avg', 'token'), ('token', 'avg')):
        state = vit(depth=1, num_classes=5, global_pool=theirs).state_dict()
        shared = {k: v for k, v in state.items() if not k.startswith(('head.', 'norm', 'fc_norm'))}
        model = vit(seed=2, depth=1, num_classes=3, global_pool=ours)
        head = model.head.weight.clone()
        assert equal(taken(write(state, tmp_path), model), shared)
        assert torch.equal(model.head.weight, head)


REFUSED: dict[str, tuple[Callable[[], object], Callable[[], nn.Module]]] = {
    'DeiT distilled, into a plain model': (
        lambda: vit('deit_tiny_distilled_patch16_224').state_dict(),
        vit,
    ),
    'a plain ViT, into a distilled model': (
        lambda: A,
        lambda: vit('deit_tiny_distilled_patch16_224'),
    ),
    'a ViT with class token, into one without': (
        lambda: A,
        lambda: vit(class_token=False, global_pool='avg'),
    ),
    'a ViT without class token, into one with': (
        lambda: vit(class_token=False, global_pool='avg').state_dict(),
        vit,
    ),
    'DINOv2 with registers, into a plain model': (
        with_registers,
        lambda: vit('vit_small_patch14_dinov2', **DINO),
    ),
    'plain DINOv2, into a model with registers': (
        lambda: vit('vit_small_patch14_dinov2', **DINO).state_dict() | TOKEN,
        lambda: vit(REG4, **DINO),
    ),
    'more blocks than the model': (lambda: vit(depth=3).state_dict(), vit),
    'another width': (lambda: vit(embed_dim=32).state_dict(), vit),
    'another architecture': (lambda: timm.create_model('resnet10t').state_dict(), vit),
    'a pickled network (`torch.save(model)`)': (lambda: MODEL, vit),
    'a dict with a pickled network': (lambda: {'model': MODEL, 'epoch': 3}, vit),
    'no tensors': (lambda: {'meta': {'epoch': 3}}, vit),
}


@pytest.mark.parametrize('row', REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(row, tmp_path):
    content, model = (make() for make in REFUSED[row])
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    reason = ROWS[row].removeprefix('refused: ').strip('`')
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        taken(write(content, tmp_path), model)
    assert '\n' not in str(error.value)
    assert 'file.pth' in str(error.value)
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize('wrap', [lambda model: model, lambda model: {'model': model, 'epoch': 1}])
def test_a_pickled_network_of_a_trusted_author_is_taken(wrap, tmp_path):
    path = write(wrap(MODEL), tmp_path)
    with trust_checkpoints(True):
        assert equal(taken(path, vit(seed=2)), A)


def test_every_row_of_the_table_is_tested():
    tested = {*SAME, *TWO, *ADAPTED, *REFUSED, *TRANSFORMERS}
    tested |= {row for row in ROWS if re.search(r'channel|^another (n|po)|\.safetensors', row)}
    assert tested == ROWS.keys()
    assert len(ROWS) >= 32


SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
PLAIN = dict(SIZES, intermediate_size=64, image_size=32, patch_size=16, layer_norm_eps=1e-6)
DECODER = dict(
    decoder_hidden_size=16,
    decoder_num_attention_heads=2,
    decoder_num_hidden_layers=1,
    decoder_intermediate_size=32,
    mask_ratio=0.0,
)
DINO_SIZES = dict(SIZES, image_size=28, patch_size=14, mlp_ratio=2)
OURS = dict(embed_dim=32, img_size=32, mlp_ratio=2, patch_size=16)
STAGES = dict(depths=[1, 2, 1], num_heads=[1, 2, 2])
# Class and sizes of transformers, and the same of timm.
TRANSFORMERS = {
    'transformers: ViT': ('ViTModel', PLAIN, 'vit_tiny_patch16_224', OURS),
    'transformers: ViT with a classifier': (
        'ViTForImageClassification',
        PLAIN,
        'vit_tiny_patch16_224',
        OURS,
    ),
    'transformers: ViTMAE': (
        'ViTMAEForPreTraining',
        PLAIN | DECODER,
        'vit_tiny_patch16_224',
        OURS,
    ),
    'transformers: DeiT': ('DeiTModel', PLAIN, 'deit_tiny_distilled_patch16_224', OURS),
    'transformers: DINOv2': (
        'Dinov2Model',
        DINO_SIZES,
        'vit_small_patch14_dinov2',
        OURS | dict(img_size=28, patch_size=14),
    ),
    'transformers: DINOv2 with registers': (
        'Dinov2WithRegistersModel',
        DINO_SIZES,
        REG4,
        OURS | dict(img_size=28, patch_size=14),
    ),
    'transformers: DINOv2 with SwiGLU': (
        'Dinov2Model',
        DINO_SIZES | dict(use_swiglu_ffn=True),
        'vit_giant_patch14_dinov2',
        OURS | dict(img_size=28, patch_size=14, mlp_ratio=3),
    ),
    'transformers: Swin': (
        'SwinForImageClassification',
        dict(STAGES, embed_dim=8, image_size=64, window_size=4),
        'swin_tiny_patch4_window7_224',
        dict(STAGES, embed_dim=8, img_size=64, window_size=4, depth=None),
    ),
    'transformers: ConvNeXt': (
        'ConvNextForImageClassification',
        dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 3, 1], layer_norm_eps=1e-6),
        'convnext_tiny',
        dict(dims=[8, 16, 24, 32], depths=[1, 2, 3, 1]),
    ),
}


def both_models(row: str) -> tuple[nn.Module, nn.Module]:
    """A network of transformers with random weights, and timm's of the same sizes."""
    transformers = pytest.importorskip('transformers')
    kind, sizes, name, options = TRANSFORMERS[row]
    theirs = getattr(transformers, kind)
    theirs = theirs(theirs.config_class(**sizes)).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, mean=0.05, std=0.2)
    small = {} if 'Swin' in row or 'ConvNeXt' in row else SMALL
    given = {k: v for k, v in {**small, 'num_classes': 0, **options}.items() if v is not None}
    return theirs, timm.create_model(name, **given).eval()


def their_features(theirs: nn.Module, image: Tensor) -> Tensor:
    """Of the last layer, (B, tokens or pooled, C)."""
    network = getattr(theirs, theirs.base_model_prefix, theirs)
    order = {'noise': torch.arange(4.0)[None]} if 'MAE' in type(theirs).__name__ else {}
    output = network(image, **order)
    return output.pooler_output if 'ConvNext' in type(theirs).__name__ else output.last_hidden_state


@pytest.mark.parametrize('row', TRANSFORMERS)
def test_networks_of_transformers_compute_the_same_here_and_go_back(row, tmp_path):
    assert ROWS[row] == 'loads'
    theirs, model = both_models(row)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / 'model.safetensors'
    loaded = {key: tensor.clone() for key, tensor in taken(path, model).items()}
    size = 64 if 'ConvNeXt' in row else theirs.config.image_size
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        ours = model(image) if 'ConvNeXt' in row else model.forward_features(image)
        ours = ours.flatten(1, 2) if ours.ndim == 4 else ours
        torch.testing.assert_close(ours, their_features(theirs, image), rtol=1e-4, atol=1e-5)
    in_memory = tmp_path / 'memory.pth'
    torch.save(theirs.state_dict(), in_memory)  # version 5 has other names there
    nn.init.zeros_(next(model.parameters()))
    assert equal(taken(in_memory, model), loaded)
    if 'registers' in row:
        return  # read only
    found = find_backbone(load_file(path), loaded.keys())
    back = FAMILIES[found.family or ''].from_timm(loaded)
    back = below(found.prefix, back)
    assert equal(load_safetensors(path), back)
    assert back.keys() == {key for key in found.kept if 'mask_token' not in key}
