"""A run of four epochs that every test of a hook can look at."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from a2mim.masking import fill_masked


class Images(Dataset):
    """Six images; image i is uniformly 10 * (i + 1), and its left half is hidden."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        image = torch.full((self.channels, 8, 8), 10 * (index + 1), dtype=torch.uint8)
        return dict(image=image, mask=np.array([[1, 0], [1, 0]], dtype=np.uint8))


class Preprocessor(BaseDataPreprocessor):
    def forward(self, data: dict, training: bool = False) -> dict:
        return dict(image=data['image'].float() / 255, mask=data['mask'].float())

    def denormalize(self, image: Tensor) -> Tensor:
        return (image * 255).round().clamp(0, 255).to(torch.uint8)


class Reconstructor(BaseModel):
    """Predicts one half everywhere; has a layer that behaves differently in training."""

    def __init__(self, channels: int) -> None:
        super().__init__(Preprocessor())
        self.layer = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor, mask: Tensor, mode: str) -> dict[str, Tensor]:
        if mode == 'loss':
            loss = self.layer(image).square().mean()
            return dict(loss_spatial=loss, loss_spectral=0.1 * loss)
        assert not self.training
        assert not torch.is_grad_enabled()
        half = torch.full_like(image, 0.5)
        return dict(image=image, visible=fill_masked(image, mask), reconstruction=half, mask=mask)


@pytest.fixture(scope='session')
def train() -> Callable[..., Runner]:
    """A function that trains with some hooks in some folder."""

    def train(work_dir: Path, hooks: list[dict], channels: int = 3) -> Runner:
        runner = Runner(
            model=Reconstructor(channels),
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=Images(channels),
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=4),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
            custom_hooks=hooks,
            log_processor=dict(type='SpeedLogProcessor'),
            default_scope='a2mim',
            experiment_name=f'{work_dir.parent.name}-{work_dir.name}',
            cfg=Config(dict()),
        )
        runner.train()
        return runner

    return train


@pytest.fixture(scope='session')
def trained(train: Callable[..., Runner], tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A finished run with pictures after every third epoch and a loss curve."""
    hooks = [dict(type='ReconstructionHook', interval=3), dict(type='LossCurveHook')]
    return train(tmp_path_factory.mktemp('hooks'), hooks)


@pytest.fixture(scope='session')
def work_dir(trained: Runner) -> Path:
    """Where that run left its files."""
    return Path(trained.work_dir)
