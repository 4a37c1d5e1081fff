"""Files of any system start a training or are tested; one that does not fit is explained.

Every refusal names what was found, what was expected and what to do.
"""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor

import a2mim.models  # noqa: F401, registers the models
from a2mim.engine.resume import FitWeightsHook
from a2mim.registry import MODELS

PIXELS = dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3)


def pretraining(gamma_init: float | None = 1e-6, **options: object) -> torch.nn.Module:
    options = dict(model_name='resnet10t', mask_after='layer3') | options
    token = dict(gamma_init=gamma_init)
    return MODELS.build(
        dict(
            type='A2MIM',
            backbone=dict(type='TimmBackbone', mask_token=token, **options),
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
            data_preprocessor=PIXELS,
        )
    )


def classifier(num_classes: int = 3, **options: object) -> torch.nn.Module:
    options = dict(model_name='resnet10t') | options
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='TimmBackbone', num_classes=num_classes, **options),
            loss=dict(type='CrossEntropyLoss'),
            data_preprocessor=PIXELS,
        )
    )


def published(model: torch.nn.Module) -> dict[str, Tensor]:
    """A ResNet of ours under published names."""
    names = {}
    for key, value in model.state_dict().items():
        name = key.replace('backbone.model.fc.', 'head.fc.').replace('backbone.model.', 'backbone.')
        name = name.replace('neck.projection.', 'neck.decoder_pred.0.')
        if '.mask_token.' in name:
            name, value = name.replace('mask_token.token', 'mask_token'), value.view(1, -1, 1, 1)
            name = name.replace('mask_token.gamma', 'mask_gamma')
        names[name] = value
    return names


def load(model: torch.nn.Module, state: dict[str, Tensor], *, training: bool = True) -> dict:
    content = dict(state_dict=state, meta=dict(epoch=3))
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else {}
    runner = SimpleNamespace(model=model, _resume=False, _train_loop=loop, _load_from='in.pth')
    FitWeightsHook().after_load_checkpoint(runner, content)
    return content['state_dict']


def test_a_published_pretraining_is_complete_in_our_names():
    model = pretraining()
    torch.nn.init.normal_(model.backbone.mask_token.gamma)
    state = load(pretraining(), published(model))
    own = model.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[key], own[key]) for key in own)


def test_a_published_classifier_is_complete_in_our_names():
    model = classifier()
    state = load(classifier(), published(model), training=False)
    assert state.keys() == model.state_dict().keys()


def test_our_own_names_stay():
    model = pretraining()
    assert load(model, model.state_dict()).keys() == model.state_dict().keys()


@pytest.mark.filterwarnings('ignore:.*(bucketize|searchsorted|non-tuple)')
def test_positions_of_our_own_files_are_resized_too():
    options = dict(model_name='beit_base_patch16_224', embed_dim=32, depth=2, num_heads=2)
    source, target = (classifier(**options, img_size=size) for size in (64, 96))
    state = load(target, source.state_dict(), training=False)
    target.load_state_dict(state)


@pytest.mark.parametrize(
    'model, source, words',
    [
        (
            lambda: classifier(model_name='test_convnext'),
            classifier,
            'the file is a ResNet, the model a ConvNeXt; choose the config',
        ),
        (
            classifier,
            lambda: classifier(model_name='resnet18'),
            r'the file has 2\+2\+2\+2 blocks, the model 1\+1\+1\+1; choose the config',
        ),
        (
            lambda: classifier(model_name='vit_tiny_patch16_224', depth=2, embed_dim=24),
            lambda: classifier(model_name='vit_tiny_patch16_224', depth=3, embed_dim=24),
            'the file has 3 blocks, the model 2',
        ),
        (
            lambda: classifier(model_name='vit_tiny_patch16_224', depth=2, embed_dim=24),
            lambda: classifier(model_name='vit_tiny_patch16_224', depth=2, embed_dim=48),
            'the file is 48 wide, the model 24',
        ),
        (
            lambda: classifier(model_name='vit_tiny_patch16_224', depth=2, embed_dim=24),
            lambda: classifier(
                model_name='beit_base_patch16_224', depth=2, embed_dim=24, num_heads=3
            ),
            'the file is a ViT with relative positions, the model a ViT without relative positions',
        ),
    ],
    ids=['family', 'depth of a ResNet', 'depth of a ViT', 'width', 'positions'],
)
def test_another_architecture_is_named(model, source, words):
    with pytest.raises(ValueError, match=rf'in.pth does not fit ImageClassifier: {words}'):
        load(model(), source().state_dict())


def test_a_trunk_cannot_reconstruct():
    trunk = classifier().backbone.model.state_dict()
    with pytest.raises(ValueError, match=r'no decoder.*whole pre-training.*pretrained'):
        load(pretraining(), trunk)


def test_a_token_with_a_gamma_is_not_one_without():
    with pytest.raises(ValueError, match=r'mask token.*gamma.*, the model .*gamma_init'):
        load(pretraining(gamma_init=None), published(pretraining()))
    with pytest.raises(ValueError, match='the file has the mask token'):
        load(pretraining(), published(pretraining(gamma_init=None)))


def test_a_decoder_of_another_size_is_named():
    state = published(pretraining())
    state['neck.decoder_pred.0.weight'] = torch.zeros(12, 512, 1, 1)
    with pytest.raises(ValueError, match=r'the file has the decoder .*12, 512, 1, 1.*, the model'):
        load(pretraining(), state)


def test_a_test_needs_the_same_number_of_classes():
    state = published(classifier(5))
    words = r'the file has 5 classes, that of the model 3: set model.backbone.num_classes=5'
    with pytest.raises(ValueError, match=words):
        load(classifier(3), state, training=False)


def test_a_training_may_have_another_number_of_classes():
    state = load(classifier(3), published(classifier(5)))
    assert not any('.fc.' in key for key in state)


def test_a_pretraining_may_start_a_classifier():
    state = load(classifier(), published(pretraining()))
    assert state.keys() >= {key for key in classifier().state_dict() if '.fc.' not in key}


def test_names_of_nobody_are_refused():
    with pytest.raises(ValueError, match=r'no family that is translated.*its keys: a.weight'):
        load(classifier(), {'a.weight': torch.zeros(1)})


def test_a_resumed_run_stays_untouched():
    content = dict(state_dict={'a.weight': torch.zeros(1)})
    FitWeightsHook().after_load_checkpoint(SimpleNamespace(_resume=True), content)
    assert list(content['state_dict']) == ['a.weight']
