"""Decoder and losses of a pre-training in three forms, which compute the same.

``convolution`` decodes every position by the 1×1 convolution, ``matrix product`` by the product
that it is, and ``masked`` decodes masked positions alone, and one mean image for the spectral loss.
A call is forward and backward, to the gradients of features and decoder; features are noise with
the shape of the recipe's backbone (ResNet-50: 2048×7×7, channels last).

    OMP_NUM_THREADS=1 python tools/benchmarks/decoding.py --batches 16 64 --threads 1
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from torch import Tensor
from torch.nn import functional as F
from turns import describe_run, make_parser, paired_ratios, take_turns

import a2mim.models  # noqa: F401, registers the parts of the recipe
from a2mim.masking import block_grid, random_patch_mask
from a2mim.models import masked_decoding
from a2mim.models.decoder import PixelShuffleDecoder
from a2mim.models.mim_head import MIMHead
from a2mim.registry import MODELS
from a2mim.weights.config_files import read_config

RECIPE = (
    Path(__file__).parents[2]
    / 'configs/openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py'
)
SIZE, STRIDE, CHANNELS = 224, 32, 2048  # pixels, pixels per position, width of ResNet-50
Losses = dict[str, Tensor]


def build_forms(cfg: Config, batch: int, device: str) -> dict[str, Callable[[], list[Tensor]]]:
    """One forward and backward pass in each form; it returns the losses and all gradients."""
    torch.manual_seed(0)
    options = dict(in_channels=CHANNELS, stride=STRIDE, out_channels=3)
    neck = MODELS.build({**options, **cfg.model.neck}).to(device)
    head = MODELS.build(cfg.model.head).to(device)
    side = SIZE // STRIDE
    features = torch.randn(batch, CHANNELS, side, side, device=device)
    features = features.to(memory_format=torch.channels_last).requires_grad_()
    image = torch.randn(batch, 3, SIZE, SIZE, device=device)
    image = image.to(memory_format=torch.channels_last)
    spec, rng = cfg.train_dataloader.dataset.mask, np.random.default_rng(0)
    grid = block_grid(SIZE, spec.block_size)
    masks = np.stack([random_patch_mask(grid, spec.ratio, rng) for _ in range(batch)])
    mask = torch.from_numpy(masks).to(device).float()
    num_masked = int(masks[0].sum())

    def by_convolution() -> Losses:
        pixels = neck.projection(neck.block(features))
        return head.loss(F.pixel_shuffle(pixels, STRIDE), image, mask)

    forms = {
        'convolution': by_convolution,
        'matrix product': lambda: head.loss(neck(features), image, mask),
        'masked': partial(masked_losses, neck, head, features, image, mask, num_masked),
    }
    leaves = [features, *neck.parameters()]
    return {name: partial(complete, form, leaves) for name, form in forms.items()}


def masked_losses(neck: PixelShuffleDecoder, head: MIMHead, *inputs: Tensor | int) -> Losses:
    """The losses without the full reconstruction.

    Raises:
        ValueError: If the recipe needs that.
    """
    if not masked_decoding.is_linear(neck, head):
        raise ValueError(f'{RECIPE.name} needs the full reconstruction')
    return masked_decoding.losses(neck, head, *inputs)


def complete(form: Callable[[], Losses], leaves: Sequence[Tensor]) -> list[Tensor]:
    """The losses of ``form``, and the gradients of their sum."""
    losses = form()
    total = torch.stack(list(losses.values())).sum()
    return [*(loss.detach() for loss in losses.values()), *torch.autograd.grad(total, leaves)]


def largest_difference(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative difference of a loss or of a gradient, as vectors."""
    pairs = zip(results, expected, strict=True)
    return max(((one - other).norm() / other.norm()).item() for one, other in pairs)


def print_rows(cfg: Config, batch: int, args: argparse.Namespace) -> None:
    """Let the forms take turns on one batch."""
    forms = build_forms(cfg, batch, args.device)
    expected = forms['convolution']()
    apart = {name: largest_difference(form(), expected) for name, form in forms.items()}
    times = take_turns(forms, args)
    for name, values in times.items():
        ratio, lowest, highest = paired_ratios(times['convolution'], values)
        print(
            f'| {batch} | {name} | {statistics.median(values):.1f} | **{ratio:.2f}** | '
            f'{lowest:.2f} – {highest:.2f} | {apart[name]:.1e} |',
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every batch."""
    parser = make_parser(__doc__.split('\n')[0], rounds=7)
    parser.add_argument('--batches', nargs='+', type=int, default=[16, 64])
    args = parser.parse_args(argv)
    print(f'{describe_run(args)}; {RECIPE.stem}\n')
    columns = ('batch', 'form', 'ms', 'times faster', 'lowest – highest', 'apart (relative L2)')
    print(f'| {" | ".join(columns)} |')
    print('|---:|---|---:|---:|---|---|')
    for batch in args.batches:
        print_rows(read_config(RECIPE), batch, args)


if __name__ == '__main__':
    main()
