"""The A2MIM step against timm's supervised step of the same backbone.

The supervised model is ``timm.create_model(…, num_classes=1000)`` with the backbone options of the
recipe, cross-entropy and fused AdamW in timm's two parameter groups. A2MIM runs as the recipe
trains it, gradient clipping included. Both take the same uint8 batch, normalize it on the device,
and have one dtype and memory layout; they take turns.

    python tools/benchmarks/train_step.py --models resnet50 convnext_small --batch 8
"""

import argparse
import logging
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from mmengine import Config
from mmengine.logging import MMLogger
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.nn import functional as F
from turns import describe_run, make_parser, paired_ratios, take_turns

import a2mim.engine.registered
import a2mim.models  # noqa: F401, registers the parts of the recipes
from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.masking import block_grid, random_patch_mask
from a2mim.models.timm_inspection import prefers_channels_last
from a2mim.registry import MODELS
from a2mim.weights.config_files import read_config

PRETRAIN = Path(__file__).parents[2] / 'configs/openmixup/pretrain/a2mim/imagenet'
RECIPES = {
    'resnet50': 'r50_l3_sz224_init_8xb256_cos_ep300.py',
    'vit_base': 'vit_base_l0_sz224_8xb128_accu2_step_ep800.py',
    'convnext_small': 'convnext_s_l3_sz224_init_8xb256_cos_ep300.py',
}
TARGETS = {'resnet50': 0.85, 'vit_base': 0.9, 'convnext_small': 0.9}
MASKING_OPTIONS = ('type', 'mask_after', 'mask_token', 'init_cfg')
CLASSES = 1000


def load_recipe(name: str, image_size: int) -> Config:
    """The shipped recipe of ``name``, for images of another size."""
    cfg = read_config(PRETRAIN / RECIPES[name])
    if 'use_abs_pos_emb' in cfg.model.backbone:  # positions are made for one size
        cfg.model.backbone.img_size = image_size
    return cfg


def make_batch(cfg: Config, batch: int, image_size: int, device: str) -> dict[str, Tensor]:
    """Noise as the loader would hand it out: uint8 in channels-last, and a block mask."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mask = cfg.train_dataloader.dataset.mask
    grid = block_grid(image_size, mask.block_size)
    masks = [random_patch_mask(grid, mask.ratio, rng) for _ in range(batch)]
    image = torch.randint(0, 256, (batch, 3, image_size, image_size), dtype=torch.uint8)
    image = image.to(device, memory_format=torch.channels_last)
    return dict(image=image, mask=torch.from_numpy(np.stack(masks)).to(device))


def a2mim_step(
    cfg: Config, batch: dict[str, Tensor], device: str, dtype: str
) -> Callable[[], Tensor]:
    """One iteration of pre-training, as the Runner calls it; gradients are not accumulated."""
    model = MODELS.build(cfg.model).to(device).train()
    settings = dict(type='OptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    if dtype != 'float32':
        settings.update(type='AmpOptimWrapper', dtype=dtype)
    settings['clip_grad'] = cfg.optim_wrapper.get('clip_grad')
    wrapper = ParamRuleConstructor(settings, cfg.optim_wrapper.paramwise_cfg)(model)
    return lambda: model.train_step(batch, wrapper)['loss']


def supervised_model(cfg: Config) -> nn.Module:
    """A classifier by timm with the backbone of the config."""
    backbone = cfg.model.backbone
    options = {key: value for key, value in backbone.items() if key not in MASKING_OPTIONS}
    return timm.create_model(**options, num_classes=CLASSES)


def timm_step(
    cfg: Config, batch: dict[str, Tensor], device: str, dtype: str
) -> Callable[[], Tensor]:
    """One iteration of supervised training of the same backbone."""
    model, pixels = supervised_model(cfg).train(), cfg.model.data_preprocessor
    layout = torch.channels_last if prefers_channels_last(model) else torch.contiguous_format
    model.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=1e-3, fused=True)
    label = torch.randint(0, CLASSES, (len(batch['image']),), device=device)
    mean, std = (torch.tensor(x, device=device).view(-1, 1, 1) for x in (pixels.mean, pixels.std))
    autocast = torch.autocast(device, getattr(torch, dtype), enabled=dtype != 'float32')

    def step() -> Tensor:
        image = batch['image'].to(torch.float32, memory_format=layout).sub_(mean).div_(std)
        with autocast:
            loss = F.cross_entropy(model(image), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def compare(cfg: Config, args: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds per step of both, round by round."""
    batch = make_batch(cfg, args.batch, args.image_size, args.device)
    forms = {
        name: build(cfg, batch, args.device, args.dtype)
        for name, build in (('A2MIM', a2mim_step), ('timm', timm_step))
    }
    return take_turns(forms, args)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__.split('\n')[0], rounds=9)
    parser.add_argument('--models', nargs='+', choices=RECIPES, default=list(RECIPES))
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print one row per backbone."""
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # no lines about groups in the table
    print(f'{describe_run(args)}; {args.dtype}, {args.image_size} pixels\n')
    columns = ('A2MIM, images/s', 'timm, images/s', 'ratio', 'lowest – highest', 'target')
    print(f'| backbone | batch | {" | ".join(columns)} |')
    print('|---|---:|---:|---:|---:|---:|---:|')
    for name in args.models:
        times = compare(load_recipe(name, args.image_size), args)
        rates = [1000 * args.batch / statistics.median(values) for values in times.values()]
        ratio, lowest, highest = paired_ratios(times['timm'], times['A2MIM'])
        print(
            f'| {name} | {args.batch} | {rates[0]:.3g} | {rates[1]:.3g} | **{ratio:.2f}** | '
            f'{lowest:.2f} – {highest:.2f} | {TARGETS[name]:.2f} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
