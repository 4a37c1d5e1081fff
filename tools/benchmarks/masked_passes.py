"""Forward passes of masked images, which an analysis of interactions consists of, in both layouts.

Analyses keep weights with their channels last. The other form is torch's default layout, of the
same random weights; a pass includes masking.

    python tools/benchmarks/masked_passes.py --models resnet50 vit_small_patch16_224 --threads 1
"""

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from turns import describe_run, make_parser, paired_ratios, take_turns

from a2mim.analysis import Network, read_network
from a2mim.analysis.interactions import keep_present, network_outputs

OURS, DEFAULT = 'channels last', 'default layout'
MODELS = ('resnet18', 'resnet50', 'convnext_tiny', 'vit_small_patch16_224')
GRID = 14  # cells along a side, as in the reference


def build_forms(name: str, batch_size: int, device: str) -> dict[str, Callable[[], Tensor]]:
    """One pass of a batch of masked images in each layout."""
    subject = read_network(f'random:{name}', device)
    model = copy.deepcopy(subject.model).to(memory_format=torch.contiguous_format)
    default = Network(DEFAULT, name, model, subject.preprocessor, subject.image_size)
    image = torch.randn(subject.channels, *subject.image_size, device=device)
    present = torch.rand(batch_size, GRID**2, device=device) < 0.5
    return {
        form: partial(masked_pass, one, image, present)
        for form, one in ((OURS, subject), (DEFAULT, default))
    }


@torch.no_grad()
def masked_pass(subject: Network, image: Tensor, present: Tensor) -> Tensor:
    """(B, classes)."""
    return network_outputs(subject, keep_present(image, present))


def print_row(name: str, args: argparse.Namespace) -> None:
    """Let the layouts take turns on one network."""
    times = take_turns(build_forms(name, args.batch_size, args.device), args)
    rates = [1000 * args.batch_size / statistics.median(times[form]) for form in (OURS, DEFAULT)]
    ratio, lowest, highest = paired_ratios(times[DEFAULT], times[OURS])
    print(
        f'| {name} | {rates[0]:.1f} | {rates[1]:.1f} | **{ratio:.2f}** | '
        f'{lowest:.2f} – {highest:.2f} |'
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every network."""
    parser = make_parser(__doc__.split('\n')[0], rounds=7)
    parser.add_argument('--models', nargs='+', default=MODELS, help='names of timm')
    parser.add_argument('--batch-size', type=int, default=64)
    args = parser.parse_args(argv)
    print(f'{describe_run(args)}\n')
    print(f'| network | {OURS}, passes/s | {DEFAULT}, passes/s | ratio | lowest – highest |')
    print('|---|---:|---:|---:|---|')
    for name in args.models:
        print_row(name, args)


if __name__ == '__main__':
    main()
