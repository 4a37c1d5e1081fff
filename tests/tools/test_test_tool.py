"""``tools/test.py``: predictions of each image, pictures, two views, mixed precision."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small_models import build
from toy_run import CLASSES, load_tool, toy_config, write_images

evaluate = load_tool('test').main


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A classifier of 15 images, its config ``toy.py`` and its checkpoint ``toy.pth``."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'data/val', 5)
    cfg = toy_config(tmp_path / 'data')
    cfg.dump('toy.py')
    torch.manual_seed(1)
    network = build(cfg)
    head = network.backbone.model.get_classifier()
    torch.nn.init.normal_(head.weight)
    torch.save(dict(state_dict=network.state_dict(), meta={}), 'toy.pth')
    return network


def scores_of(model, *views):
    """Mean probabilities (15, 3) over views of the images, in the order of their names."""
    paths = sorted((CLASSES.index(c), i) for c in CLASSES for i in range(5))
    names = sorted(f'data/val/{CLASSES[c]}/{i}.png' for c, i in paths)
    pixels = np.stack([np.asarray(Image.open(name)) for name in names])
    batch = (torch.tensor(pixels).permute(0, 3, 1, 2).float() - 127) / 64
    with torch.no_grad():
        found = [model.logits(view(batch)).softmax(dim=1) for view in views]
    return names, torch.stack(found).mean(dim=0)


def same(image):
    return image


def mirrored(image):
    return image.flip(-1)


@pytest.mark.parametrize('tta', [False, True])
def test_predictions_are_those_of_the_model_for_each_image(model, tta, capsys):
    options = ['--out', 'p.json', '--out-item', 'pred', *(['--tta'] if tta else [])]
    evaluate(['toy.py', 'toy.pth', *options])
    content = json.loads(Path('p.json').read_text(encoding='utf-8'))
    rows = content['predictions']
    names, scores = scores_of(model, *([same, mirrored] if tta else [same]))
    assert [row['image'].rpartition('data/')[2] for row in rows] == [n[5:] for n in names]
    order = sorted(CLASSES)
    assert [order[row['label']] for row in rows] == [name.split('/')[2] for name in names]
    assert [row['pred_label'] for row in rows] == scores.argmax(dim=1).tolist()
    assert [row['pred_class'] for row in rows] == [order[i] for i in scores.argmax(dim=1)]
    for row, expected in zip(rows, scores.tolist(), strict=True):
        assert row['pred_score'] == pytest.approx(max(expected), rel=1e-3)
        assert row['top5'] == {
            c: pytest.approx(s, rel=1e-3, abs=1e-6) for c, s in zip(order, expected, strict=True)
        }
    right = [row['label'] == row['pred_label'] for row in rows]
    assert content['accuracy/top1'] == pytest.approx(100 * sum(right) / 15)


def test_pictures_show_each_image_with_what_was_said(model):
    evaluate(['toy.py', 'toy.pth', '--show-dir', 'shown', '--amp', '--out', 'm.json'])
    pictures = sorted(path.name for path in Path('shown').iterdir())
    assert pictures == [f'{i:06d}_{i % 5}.png' for i in range(15)]
    page = np.asarray(Image.open('shown/000007_2.png'))
    image = np.asarray(Image.open('data/val/green/2.png'))
    assert (page[:256:8, ::8] == image).all()
    assert page.shape == (256 + 28, 256, 3) and (page[256:] < 255).any()
    assert 'predictions' not in json.loads(Path('m.json').read_text(encoding='utf-8'))


def test_mixed_precision_computes_in_it(model, monkeypatch):
    seen = []
    forward = type(model).logits

    def noting(self, image):
        seen.append(torch.is_autocast_enabled('cpu'))
        return forward(self, image)

    monkeypatch.setattr(type(model), 'logits', noting)
    plain = evaluate(['toy.py', 'toy.pth'])
    mixed = evaluate(['toy.py', 'toy.pth', '--amp'])
    assert seen == [False] * 8 + [True] * 8
    assert plain.keys() == mixed.keys()


def test_predictions_need_a_file(capsys):
    with pytest.raises(SystemExit) as end:
        evaluate(['toy.py', 'toy.pth', '--out-item', 'pred'])
    assert end.value.code == 2
    assert '--out-item pred needs --out FILE.json' in capsys.readouterr().err
