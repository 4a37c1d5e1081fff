"""The optimiser step with few merged parameter groups, against one group per parameter.

The parameters, learning rates and decays are those of the ResNet-50 pre-training of the paper, with
random gradients. Torch's default implementation, which is not fused, is measured for both
groupings too. All forms take turns on the same tensors.

    python tools/benchmarks/param_groups.py --threads 2
"""

import argparse
import statistics
from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW
from turns import describe_run, make_parser, paired_ratios, take_turns

import a2mim.models  # noqa: F401, registers the parts of the recipe
from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS
from a2mim.weights.config_files import read_config

RECIPE = 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py'
CONFIG = Path(__file__).parents[2] / 'configs' / RECIPE
OURS = 'merged, fused'


def build_forms(model: nn.Module, optim_wrapper: dict) -> dict[str, AdamW]:
    """An optimiser per form, all of the same parameters; each keeps its own averages."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    settings = dict(optimizer=optim_wrapper['optimizer'])
    merged = ParamRuleConstructor(settings, optim_wrapper['paramwise_cfg']).param_groups(model)
    split = [{**group, 'params': [one]} for group in merged for one in group['params']]

    def build(groups: list[dict], fused: bool | None) -> AdamW:
        return AdamW([dict(group) for group in groups], fused=fused)  # AdamW fills the groups up

    return {
        OURS: build(merged, fused=True),
        'merged, default': build(merged, fused=None),
        'one per parameter, fused': build(split, fused=True),
        'one per parameter, default': build(split, fused=None),
    }


def print_table(forms: dict[str, AdamW], args: argparse.Namespace) -> None:
    """Let the forms take turns, and print one row for each."""
    steps = {name: optimizer.step for name, optimizer in forms.items()}
    times = take_turns(steps, args)
    print(f'{describe_run(args)}\n')
    print('| parameter groups | number | ms per step | times ours | lowest – highest |')
    print('|---|---:|---:|---:|---:|')
    for name, optimizer in forms.items():
        ratio, lowest, highest = paired_ratios(times[name], times[OURS])
        print(
            f'| {name} | {len(optimizer.param_groups)} | {statistics.median(times[name]):.1f} | '
            f'**{ratio:.2f}** | {lowest:.2f} – {highest:.2f} |'
        )


def main() -> None:
    """Measure the parameters of the recipe."""
    args = make_parser(__doc__.split('\n')[0], rounds=21).parse_args()
    cfg = read_config(CONFIG)
    print_table(build_forms(MODELS.build(cfg.model).to(args.device), cfg.optim_wrapper), args)


if __name__ == '__main__':
    main()
