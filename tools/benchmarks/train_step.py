"""The step of a method of pre-training against timm's supervised one of the same backbone.

Both run as ``tools/train.py`` trains the shipped config: its runner, with the finite guard,
seeds, schedules, log lines and hooks, on one batch in memory. The supervised model is
``timm.create_model(…, num_classes=1000)`` with the backbone options of the config, cross-entropy
and fused AdamW in timm's two parameter groups, in a bare loop. Both take the same uint8 batch,
normalize it on the device, and have one dtype and memory layout; they take turns. The memory is
that of the tensors which a forward pass keeps for the backward pass, without weights: what limits
a batch, and the same on every machine but for other kernels.

    python tools/benchmarks/train_step.py --models resnet50 convnext_small --batch 8
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from mmengine import Config
from mmengine.logging import MMLogger
from real_run import RECIPES, REDUCED_SIZE, real_recipe
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.nn import functional as F
from turns import describe_run, make_parser, paired_ratios, take_turns

from a2mim.models.timm_inspection import prefers_channels_last

TARGETS = {'resnet50': '0.92', 'vit_base': '0.98', 'convnext_small': '0.97'}
MASKING_OPTIONS = ('type', 'mask_after', 'mask_token', 'init_cfg')
CLASSES = 1000


def supervised_model(cfg: Config) -> nn.Module:
    """A classifier by timm with the backbone of the config."""
    backbone = cfg.model.backbone
    options = {key: value for key, value in backbone.items() if key not in MASKING_OPTIONS}
    return timm.create_model(**options, num_classes=CLASSES)


def timm_step(
    cfg: Config,
    image: Tensor,
    device: str,
    dtype: str,
    change: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Callable[[], Tensor]:
    """One iteration of supervised training of the same backbone.

    Args:
        cfg: Of the pre-training.
        image: (B, C, H, W), uint8, as the loader hands it out.
        device: To train on.
        dtype: Of autocast; float32 for none.
        change: Compiles or wraps the model.
    """
    model, pixels = supervised_model(cfg).train(), cfg.model.data_preprocessor
    layout = torch.channels_last if prefers_channels_last(model) else torch.contiguous_format
    model.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=1e-3, fused=True)
    label = torch.randint(0, CLASSES, (len(image),), device=device)
    mean, std = (torch.tensor(x, device=device).view(-1, 1, 1) for x in (pixels.mean, pixels.std))
    autocast = torch.autocast(device, getattr(torch, dtype), enabled=dtype != 'float32')
    model = change(model)

    def step() -> Tensor:
        batch = image.to(device, non_blocking=True)
        batch = batch.to(torch.float32, memory_format=layout).sub_(mean).div_(std)
        with autocast:
            loss = F.cross_entropy(model(batch), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def kept_for_backward(step: Callable[[], object]) -> int:
    """Bytes that the forward pass of ``step`` keeps for its backward pass, but for parameters."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter):
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    storages = [tensor.untyped_storage() for tensor in kept]
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


def compare(name: str, args: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds per step of both, round by round, and MiB of an image kept for backward."""
    with tempfile.TemporaryDirectory() as folder, real_recipe(name, Path(folder), args) as run:
        cfg, image = run.runner.cfg, run.batch['image']
        forms = {'A2MIM': run.step, 'timm': timm_step(cfg, image, args.device, args.dtype)}
        times = take_turns(forms, args)
        held = {key: kept_for_backward(form) for key, form in forms.items()}
        return times, {key: value / args.batch / 2**20 for key, value in held.items()}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__.split('\n')[0], rounds=9)
    parser.add_argument('--models', nargs='+', choices=RECIPES, default=list(RECIPES))
    add_step_options(parser)
    return parser.parse_args(argv)


def add_step_options(parser: argparse.ArgumentParser) -> None:
    """What a step is made of."""
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument(
        '--reduced',
        action='store_true',
        help=f'tiny backbones at {REDUCED_SIZE} pixels, to try the script',
    )


def describe_step(args: argparse.Namespace) -> str:
    """What ran where."""
    size = f'{REDUCED_SIZE} pixels, tiny backbones' if args.reduced else f'{args.image_size} pixels'
    return f'{describe_run(args)}; {args.dtype}, {size}; A2MIM in the real runner'


def main(argv: list[str] | None = None) -> None:
    """Print one row per backbone."""
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # no lines about groups in the table
    print(f'{describe_step(args)}\n')
    columns = ('pre-training, images/s', 'timm, images/s', 'ratio', 'lowest – highest', 'target')
    columns += ('kept, MiB an image', 'timm, MiB an image')
    print(f'| backbone | batch | {" | ".join(columns)} |')
    print(f'|---|{"---:|" * (1 + len(columns))}')
    for name in args.models:
        times, held = compare(name, args)
        rates = [1000 * args.batch / statistics.median(values) for values in times.values()]
        ratio, lowest, highest = paired_ratios(times['timm'], times['A2MIM'])
        print(
            f'| {name} | {args.batch} | {rates[0]:.3g} | {rates[1]:.3g} | **{ratio:.2f}** | '
            f'{lowest:.2f} – {highest:.2f} | {TARGETS.get(name, "–")} | '
            f'{held["A2MIM"]:.0f} | {held["timm"]:.0f} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
