"""After how many steps residual branches that start at zero are open, on scikit-learn's digits.

    python tools/development/residual_branches.py --steps 100 300 1000 --out branches.json

timm starts the last norm of every residual block of a ResNet at 0 and the layer scale of ConvNeXt
at 1e-6: such a network begins as a chain of its few other layers. Each network is trained for each
number of steps twice, from that start and with open branches, by A2MIM and as a classifier from
scratch, with AdamW at 1e-3, a warm-up of 5 % and a cosine. The table shows the median size of the
scales at the end, and the mean loss of the last tenth of the steps: where both starts end at
the same loss, the branches had the steps to open.
"""

import argparse
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from a2mim.datasets import Digits, PatchMask
from a2mim.engine.preflight import branch_scales
from a2mim.models import A2MIM
from a2mim.models.timm_backbone import TimmBackbone

BATCH, SIDE, LR = 32, 16, 1e-3
# Options of a network, those of its two starts, and after which module the mask token stands.
NETWORKS = {
    'ResNet-10': (
        dict(model_name='resnet10t', channels=(32, 64, 128, 256), output_stride=8),
        dict(closed=dict(zero_init_last=True), open=dict(zero_init_last=False)),
        'layer1',
    ),
    'ConvNeXt': (
        dict(
            model_name='convnext_atto',
            depths=(1, 1, 2, 1),
            dims=(32, 64, 128, 256),
            output_stride=8,
        ),
        dict(closed=dict(ls_init_value=1e-6), open=dict(ls_init_value=1.0)),
        'stages.0',
    ),
}


def load(**options: int) -> tuple[Tensor, Tensor]:
    """Training digits, (N, 3, SIDE, SIDE), standardised, and their labels."""
    source = Digits('train', **options)
    images = torch.stack([source.load(index) for index in range(len(source))]).float()
    images = interpolate(images, SIDE, mode='bilinear', antialias=True)
    return (images - images.mean()) / images.std(), torch.from_numpy(source.labels)


def train(
    model: nn.Module, loss_of: Callable[[np.ndarray], Tensor], number: int, steps: int, seed: int
) -> float:
    """Train on batches out of ``number`` images; the mean loss of the last tenth of the steps."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.05)
    warmup, losses = max(1, steps // 20), []
    rng = np.random.default_rng(seed)
    for step in range(steps):
        factor = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]['lr'] = LR * factor
        loss = loss_of(rng.integers(number, size=BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return mean(losses[-max(1, steps // 10) :])


def pretrain(options: dict, mask_after: str, steps: int, seed: int) -> tuple[nn.Module, float]:
    """A2MIM: blocks of 4 pixels, 60 % masked, L1 and 0.1 of the focal frequency loss."""
    images, _ = load()
    spectral = dict(type='FocalFrequencyLoss', loss_weight=0.1)
    model = A2MIM(
        dict(type='TimmBackbone', mask_after=mask_after, mask_token=dict(mode='add'), **options),
        dict(type='PixelShuffleDecoder'),
        dict(type='MIMHead', spatial=dict(type='L1Loss'), spectral=spectral),
        dict(type='ImagePreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
    )
    mask, rng = PatchMask(SIDE, 4, 0.6), np.random.default_rng((seed, 1))

    def loss_of(places: np.ndarray) -> Tensor:
        masks = torch.stack([mask(rng) for _ in places]).float()
        return sum(model.loss(images[places], masks).values(), torch.zeros(()))

    return model, train(model, loss_of, len(images), steps, seed)


def classify(options: dict, mask_after: str, steps: int, seed: int) -> tuple[nn.Module, float]:
    """A classifier of 20 labels of each class, from scratch."""
    images, labels = load(labels_per_class=20, seed=seed)
    model = TimmBackbone(num_classes=len(Digits.classes), **options)

    def loss_of(places: np.ndarray) -> Tensor:
        return cross_entropy(model(images[places]), labels[places])

    return model, train(model, loss_of, len(images), steps, seed)


def main() -> None:
    """Train every network for every number of steps, print a row each, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--networks', nargs='+', default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument('--steps', type=int, nargs='+', default=[100, 300, 1000])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True, help='JSON file of all rows')
    args = parser.parse_args()
    rows = []
    for network, task, steps, start in product(
        args.networks, (pretrain, classify), sorted(args.steps), ('closed', 'open')
    ):
        options, starts, mask_after = NETWORKS[network]
        torch.manual_seed(args.seed)
        model, loss = task({**options, **starts[start]}, mask_after, steps, args.seed)
        # The branches that an open start has open, too.
        torch.manual_seed(args.seed)
        names = branch_scales(TimmBackbone(**options, **starts['closed']), largest=1e-6)
        scales = [p for name, p in model.named_parameters() if name.endswith(tuple(names))]
        size = torch.cat(scales).detach().abs().median().item()
        row = dict(network=network, task=task.__name__, steps=steps, start=start)
        rows.append({**row, 'median_scale': round(size, 4), 'last_loss': round(loss, 4)})
        print(*rows[-1].values(), sep='\t', flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    main()
