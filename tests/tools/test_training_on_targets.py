"""Pre-training on features instead of pixels, by ``tools/train.py``: losses, pictures, loading."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import a2mim
from a2mim.analysis.networks import read_network
from toy_run import ROOT, load_tool, read_scalars, write_images

pytestmark = pytest.mark.integration

CONFIG = ROOT / 'configs/own_data/a2mim_resnet18_1xb128-cos-auto_folder-64px.py'
OPTIONS = (
    'model.backbone.model_name=resnet10t',
    'train_cfg.max_epochs=3',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.logger.interval=1',
    'param_scheduler.warmup=1',
    'optim_wrapper.optimizer.lr=0.05',
)


@pytest.mark.parametrize('target', ['HOGTarget', 'MaskFeatTarget', 'LBPTarget'])
def test_a_run_learns_the_target_and_draws_it(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    write_images(Path('data'), 4)
    command = [str(CONFIG), '--data-root', 'data', '--work-dir', 'run', '--auto-scale-lr']
    load_tool('train').main(
        [*command, '--cfg-options', *OPTIONS, f'model.head.target.type={target}']
    )

    losses = [line['loss_spatial'] for line in read_scalars(Path('run')) if 'loss_spatial' in line]
    assert len(losses) == 9
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    height, width, _ = np.asarray(Image.open('run/reconstruction/epoch_3.png')).shape
    assert (height, width) == (6 * (16 + 132), 4 * 132)  # six rows with captions, 64 pixels twice

    image = np.asarray(Image.open('data/red/0.png').resize((64, 64)))
    pictures = a2mim.reconstruct(a2mim.load_model('run/latest.pth'), image)
    assert pictures['target'].shape == pictures['reconstruction'].shape == (64, 64, 3)
    assert pictures['target'].std() > 5
    network = read_network('run/latest.pth')
    assert not network.has_decoder
    with pytest.raises(TypeError, match=f'predicts {target}, not pixels'):
        _ = network.pretraining
