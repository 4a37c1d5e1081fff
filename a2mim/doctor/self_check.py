"""Two steps of training with a network of seconds, on every kind of device that is there."""

import math
import os
import time
from collections.abc import Iterator

from a2mim.doctor.finding import Finding, Verdict

MODEL = dict(
    type='A2MIM',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(type='TimmBackbone', model_name='test_resnet', mask_after='layer3'),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead', spatial=dict(type='L1Loss'), spectral=dict(type='FocalFrequencyLoss')
    ),
)


def check_training() -> Iterator[Finding]:
    """Train on the CPU and, where there is one, on the first GPU."""
    import torch

    for device in ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]:
        started = time.perf_counter()
        try:
            losses = train_two_steps(device)
        # Whatever goes wrong in here is what the report is for.
        except Exception as error:
            if os.environ.get('A2MIM_TRACEBACK'):
                raise
            found = f'{type(error).__name__}: {error}'.splitlines()[0]
            remedy = 'see the lines above; A2MIM_TRACEBACK=1 python -m a2mim.doctor shows where'
            yield Finding('training', device, found, Verdict.PROBLEM, remedy, needed=True)
            continue
        seconds = time.perf_counter() - started
        found = f'two steps in {seconds:.1f} s, loss {losses[0]:.3f} and {losses[1]:.3f}'
        verdict = Verdict.OK if all(map(math.isfinite, losses)) else Verdict.PROBLEM
        yield Finding('training', device, found, verdict, needed=True)


def train_two_steps(device: str) -> list[float]:
    """Losses of two steps of A2MIM on random images, the same on every device."""
    import torch
    from mmengine.registry import DefaultScope

    from a2mim.registry import MODELS, OPTIM_WRAPPERS

    with DefaultScope.overwrite_default_scope('a2mim'), torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(MODEL).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        wrapper = OPTIM_WRAPPERS.build(dict(type='OptimWrapper', optimizer=optimizer))
        image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8).expand(4, 2, 2)
        model.train()
        return [
            float(model.train_step(dict(image=image, mask=mask), wrapper)['loss'].detach())
            for _ in range(2)
        ]
