"""``tools/train.py`` on tar shards and on a database, a bad image among them."""

from pathlib import Path

import pytest
import torch

from toy_run import load_tool, toy_config, write_images

pytestmark = pytest.mark.integration

train, make_shards = load_tool('train').main, load_tool('prepare_data/make_shards').main
SAMPLERS = {'webdataset': dict(type='ShardSampler', window=6), 'lmdb': dict(type='EpochSampler')}
SOURCES = {'webdataset': 'WebShards', 'lmdb': 'LmdbImages'}


@pytest.mark.parametrize('form', SOURCES)
def test_training_is_the_same_with_0_and_2_workers_and_names_the_bad_image(
    tmp_path, monkeypatch, form
):
    monkeypatch.chdir(tmp_path)
    write_images(Path('files'), 6)
    write_images(Path('data/val'), 2)
    Path('files/red/3.png').write_bytes(b'')
    options = ['--format', form, '--images-per-shard', '4', '--with-labels']
    make_shards(['files', 'data/train', *options])
    cfg = toy_config(Path('data'), train_cfg__max_epochs=2)
    cfg.train_dataloader.dataset.source = dict(type=SOURCES[form], root='elsewhere/train')
    cfg.train_dataloader.sampler = SAMPLERS[form]
    cfg.custom_hooks = [dict(type='BadImagesHook', max_share=0.2)]
    cfg.dump(f'{tmp_path.name}.py')
    for workers in (0, 2):
        option = f'train_dataloader.num_workers={workers}'
        command = [f'{tmp_path.name}.py', '--data-root', 'data', '--work-dir', f'{workers}']
        train([*command, '--cfg-options', option])
        (bad,) = (tmp_path / f'{workers}/bad_files.txt').read_text().splitlines()
        assert bad.startswith('data/train') and bad.endswith('.png') and '::' in bad
    alone, parallel = (
        torch.load(f'{workers}/latest.pth', weights_only=False)['state_dict'] for workers in (0, 2)
    )
    assert all(torch.equal(alone[key], parallel[key]) for key in alone)
