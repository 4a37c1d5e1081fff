"""The pages on own data: every command on them runs, on small folders of photographs.

The backbones become timm's smallest and one epoch of few images is trained, by ``--cfg-options``
alone; the sizes of images and masks and the numbers of channels stay those of the pages.
"""

import math
import re
import runpy
import shlex
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import tifffile
from mmengine import Config
from mmengine.registry import DefaultScope
from PIL import Image
from torch import Tensor, load

from toy_run import ROOT, read_scalars

# In the order in which a later command takes the weights of an earlier one.
PAGES = ('own_data', 'data_formats', 'huge_sets', 'labels', 'judge')
CONFIGS = sorted((ROOT / 'configs/own_data').glob('*.py'))
PHOTOS = ('brick.png', 'coffee.png', 'grass.png')
SMALL = {'convnext_tiny': 'test_convnext', 'vit_small_patch16_224': 'test_vit'}
ONE_EPOCH = ('train_cfg.max_epochs=1', 'param_scheduler.warmup=0', 'train_dataloader.num_workers=0')


def commands() -> list[list[str]]:
    """Words of each command of the pages, in their order."""
    text = ''.join((ROOT / f'docs/{page}.md').read_text(encoding='utf-8') for page in PAGES)
    blocks = re.findall(r'^```bash\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
    # Those of a folder alone have tests of their own.
    return [shlex.split(line) for line in lines if not line.startswith('a2mim ')]


def crops(size: tuple[int, int], number: int) -> list[np.ndarray]:
    """RGB crops (H, W, 3), from the photographs in turn."""
    rng = np.random.default_rng(number)
    photos = []
    for name in PHOTOS:
        with resources.files('skimage.data').joinpath(name).open('rb') as file:
            photos.append(np.array(Image.open(file).convert('RGB')))
    images = []
    for index in range(number):
        photo = photos[index % len(photos)]
        top, left = (rng.integers(0, photo.shape[axis] - size[axis]) for axis in (0, 1))
        images.append(photo[top : top + size[0], left : left + size[1]])
    return images


def write(folder: Path, images: list[np.ndarray], name: Callable[[int], str]) -> None:
    for index, image in enumerate(images):
        path = folder / name(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.fixture
def folders(tmp_path, monkeypatch) -> None:
    """A working directory with the tools, the configs, and the folders that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name in ('configs', 'tools'):
        Path(name).symlink_to(ROOT / name)
    data, labels = Path('data'), ('daisy', 'rose', 'tulip')
    write(data / 'photos', crops((200, 220), 16), lambda i: f'holiday/{i}.jpg')
    for part, number in (('train', 30), ('val', 6)):
        write(
            data / 'flowers' / part, crops((64, 64), number), lambda i: f'{labels[i % 3]}/{i}.png'
        )
    write(data / 'scenes', crops((64, 64), 8), 'beach/{}.jpg'.format)
    labels = ('0,2', '1', '', '1,2')
    for part in ('train', 'val'):
        lines = [f'beach/{index}.jpg,{labels[index % 4]}\n' for index in range(8)]
        (data / 'scenes' / f'{part}.csv').write_text(''.join(lines))
    write(data / 'grey', [image[..., 0] for image in crops((80, 90), 4)], '{}.png'.format)
    write(data / 'wide', crops((100, 210), 4), '{}.jpg'.format)
    write(data / 'small', crops((60, 60), 4), '{}.png'.format)
    (data / 'deep').mkdir()
    for index, image in enumerate(crops((80, 90), 4)):
        tifffile.imwrite(data / f'deep/{index}.tif', image[..., 0].astype('uint16') * 16)
    (data / 'bands').mkdir()
    for index, image in enumerate(crops((70, 80), 4)):
        bands = np.ascontiguousarray(np.concatenate([image, image[::-1, :, :2]], axis=2))
        np.save(data / 'bands' / f'{index}.npy', bands)
        tifffile.imwrite(data / f'bands/{index}.tif', bands, planarconfig='contig')


def shrunk(words: list[str]) -> list[str]:
    """The command, followed by options that make it take a second."""
    if words[1].endswith(('compute_stats.py', 'verify_dataset.py')):
        return [*words, '--workers', '0']
    if words[1] != 'tools/train.py' and not words[1].endswith('evaluate_features.py'):
        return words
    given = dict(word.split('=', 1) for word in words if '=' in word)
    model = SMALL.get(given.get('model.backbone.model_name'), 'test_resnet')
    options = [f'model.backbone.model_name={model}', *ONE_EPOCH]
    if 'train_dataloader.batch_size' not in given:
        options += ['train_dataloader.batch_size=4', 'auto_scale_lr.base_batch_size=4']
    if 'finetune' in words[2]:
        options.append('val_dataloader.num_workers=0')
    if words[1] != 'tools/train.py':
        options.append('val_dataloader.persistent_workers=False')
    return [*words, '--cfg-options', *options]


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python TOOL …`` in this process; a command that fails fails the test by its text."""
    monkeypatch.setattr('sys.argv', words[1:])
    try:
        runpy.run_path(words[1], run_name='__main__')
    except SystemExit as exit_:
        if exit_.code:
            pytest.fail(f'{shlex.join(words)} ended with {exit_.code}')


@pytest.mark.slow
def test_every_command_runs_and_leaves_what_the_pages_say(folders, monkeypatch, capsys):
    scopes = set(DefaultScope._instance_dict)
    for words in map(shrunk, commands()):
        run(words, monkeypatch)
    for scope in set(DefaultScope._instance_dict) - scopes:
        del DefaultScope._instance_dict[scope]
    trained = [words for words in commands() if words[1] == 'tools/train.py']
    work_dirs = [path.parent for path in Path('work_dirs/own_data').glob('*/latest.pth')]
    assert len(work_dirs) == len(trained)
    for work_dir in work_dirs:
        lines = read_scalars(work_dir)
        losses = [value for line in lines for name, value in line.items() if 'loss' in name]
        assert losses and all(map(math.isfinite, losses))
        assert (work_dir / 'loss.png').is_file()
        masked = 'mask' in Config.fromfile(next(work_dir.glob('*.py'))).train_dataloader.dataset
        assert masked == (work_dir / 'reconstruction/epoch_1.png').is_file()
        assert masked != any({'accuracy/top1', 'accuracy/mAP'} & line.keys() for line in lines)
    assert all(isinstance(value, Tensor) for value in load('trunk.pth').values())
    assert '5 nearest neighbours' in capsys.readouterr().out


def test_every_config_is_on_a_page():
    named = {word for words in commands() for word in words if word.startswith('configs/')}
    assert named == {str(path.relative_to(ROOT)) for path in CONFIGS}
