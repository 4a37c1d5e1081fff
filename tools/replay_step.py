"""Compute a failed training step again, and name the first module with NaN or Inf.

    python tools/replay_step.py WORK_DIR/failed_steps/iter_N_rank_R.pth

Exit code 0 if the failure is reproduced, 1 if the step is finite here: it may need the device of
the run, or the batch of another process, whose file is then in the same folder.
"""

import argparse
from collections.abc import Sequence

import a2mim.datasets
import a2mim.models  # noqa: F401
from a2mim.engine.command_line import one_line_errors
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.replay import Replay, read_failed_step, replay

SHOWN = 5  # names of parameters


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', help='what the run has written to failed_steps')
    return parser.parse_args(argv)


def describe(content: dict, found: Replay) -> str:
    """What a person wants to know, line by line."""
    lines = [
        f'iteration {content["iteration"] + 1}, process {content["rank"]} of '
        f'{content["world_size"]}, seed {content["seed"]}'
    ]
    for step, losses in zip(content['steps'], found.losses, strict=True):
        values = ', '.join(f'{name} {value:.6g}' for name, value in losses.items())
        lines.append(
            f'iteration {step["iteration"] + 1}: {values} (in the run: {step["loss"]:.6g})'
        )
    lines.append(f'gradient norm {found.grad_norm:.6g} (in the run: {content["grad_norm"]:.6g})')
    lines.append(f'first module with an output that is not finite: {found.module or "none"}')
    bad, all_ = found.bad_parameters, found.num_parameters
    names = ', '.join(bad[:SHOWN]) + (', ...' if len(bad) > SHOWN else '')
    lines.append(f'gradients that are not finite: {len(bad)} of {all_}{": " * bool(bad)}{names}')
    lines.append('the failure is reproduced' if found.failed else 'this step is finite here')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = parse_args(argv)
    silence_harmless_warnings()
    with one_line_errors():
        content = read_failed_step(args.file)
        found = replay(content)
    print(describe(content, found))
    return 0 if found.failed else 1


if __name__ == '__main__':
    raise SystemExit(main())
