"""Classes of images, by OpenMMLab's names of functions."""

import numpy as np
import pytest
import torch
from PIL import Image

import a2mim
from a2mim.inference import as_batch
from small_models import classifier, pretraining, save_checkpoint

NAMES = ('a', 'b', 'c', 'd', 'e')


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A config, a checkpoint with names of classes and one without, and five images."""
    monkeypatch.chdir(tmp_path)
    classifier().dump('c.py')
    save_checkpoint(classifier(), tmp_path / 'plain.pth')
    content = torch.load('plain.pth', weights_only=True)
    content['meta']['dataset_meta'] = dict(classes=NAMES)
    torch.save(content, 'named.pth')
    (tmp_path / 'photos').mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (64, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f'photos/{i}.png')
    return [f'photos/{i}.png' for i in range(5)]


@pytest.mark.parametrize('named', [True, False])
def test_results_are_those_of_the_model_with_the_names_of_the_file(files, named):
    file = 'named.pth' if named else 'plain.pth'
    model = a2mim.init_model('c.py', file)
    with torch.no_grad():
        scores = model.logits(as_batch(model, files)).softmax(dim=1)
    for images in (files, 'photos'):
        found = a2mim.ImageClassificationInferencer(model)(images, batch_size=2)
        assert [one['pred_label'] for one in found] == scores.argmax(dim=1).tolist()
        for one, expected in zip(found, scores, strict=True):
            torch.testing.assert_close(torch.tensor(one['pred_scores']), expected)
            assert one['pred_score'] == max(one['pred_scores'])
            assert one['pred_class'] == (NAMES if named else '01234')[one['pred_label']]
    for given in (model, file):
        one = a2mim.inference_model(given, files[0])
        assert (one['pred_label'], one['pred_class']) == (
            found[0]['pred_label'],
            found[0]['pred_class'],
        )
    inferencer = a2mim.ImageClassificationInferencer('c.py', pretrained=file, device='cpu')
    assert inferencer(files[1])[0]['pred_label'] == found[1]['pred_label']


def test_without_weights_it_is_the_model_of_the_config(files):
    model = a2mim.init_model('c.py')
    assert not model.training
    assert len(a2mim.inference_model(model, files[0])['pred_scores']) == 5


@pytest.mark.parametrize('meta', [3, dict(classes=7), dict(), dict(classes=None)])
def test_a_file_that_tells_no_names_has_numbers(files, meta):
    content = torch.load('plain.pth', weights_only=True)
    content['meta']['dataset_meta'] = meta
    torch.save(content, 'odd.pth')
    result = a2mim.inference_model('odd.pth', files[0])
    assert result['pred_class'] == str(result['pred_label'])


def test_a_model_without_classes_is_refused(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'p.pth')
    with pytest.raises(TypeError, match=r'A2MIM has no classes; a2mim.features has'):
        a2mim.inference_model(tmp_path / 'p.pth', 'x.png')
