"""The options that the tools share, what each changes in a config, and how a tool reports errors.

Until the first training iteration is done no work can be lost, and an error is most likely in the
input: whatever its type, it ends as one line on stderr with exit code 2; A2MIM_TRACEBACK=1 shows
its origin. A training that is not finite and a checkpoint that cannot be written end as one line at
any time, with exit codes of their own. Any other error after the first iteration keeps its
traceback.
"""

import argparse
import difflib
import os
import pickle
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine import Config

from a2mim.engine.config_edit import (
    LOADERS,
    PRECISIONS,
    add_probe,
    find_datasets,
    hooks_of,
    use_mixed_precision,
    use_precision,
)
from a2mim.engine.config_options import ConfigOptions
from a2mim.engine.loggers import BACKENDS, add_loggers, check_loggers
from a2mim.errors import (
    INTERRUPTED,
    NOT_FINITE,
    NOT_WRITTEN,
    TRY_AGAIN,
    USER_ERROR,
    BadDataError,
    MissingError,
    NotFiniteError,
    NotFiniteStateError,
    NotWrittenError,
    StorageError,
)
from a2mim.options import LAUNCHERS, WEIGHTS, add_reading_options, last_of_run, seed

if TYPE_CHECKING:
    from a2mim.engine.launch import FirstIteration
    from a2mim.scale import Scale


def add_common_options(parser: argparse._ActionsContainer) -> None:
    """Options of every tool that runs a config."""
    parser.add_argument('config', help='path of a config file')
    parser = parser.add_argument_group('run')
    parser.add_argument('--work-dir', '--work_dir', metavar='DIR', help='logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, for example optim_wrapper.optimizer.lr=1e-3',
    )
    parser.add_argument(
        '--data',
        '--data-root',
        '--data_root',
        dest='data_root',
        metavar='DIR',
        help='read the images from DIR',
    )
    add_reading_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='that started it')
    # Old launchers pass it; new ones set the variable, which is what counts.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """Options of a tool that reads images, which those of a source in a config are called too."""
    parser.add_argument(
        '--bands',
        type=lambda text: [int(part) for part in text.split(',')],
        metavar='B,B,B',
        help='numbers of the bands to read, from 0',
    )
    parser.add_argument('--page', type=int, metavar='N', help='number of the page to read, from 0')
    parser.add_argument('--axes', metavar='YXC', help='letters of the axes of an array or a TIFF')
    parser.add_argument('--nodata', type=float, metavar='V', help='value of missing pixels')


def layout_options(args: argparse.Namespace) -> dict[str, object]:
    """What ``add_layout_options`` has read, as arguments of a source."""
    return {name: getattr(args, name) for name in ('bands', 'page', 'axes', 'nodata')}


def read_scale(text: str) -> 'Scale':
    """A rule, or two numbers with a comma between them."""
    from a2mim.scale import RULES

    if text in RULES:
        return text
    try:
        low, high = (float(part) for part in text.split(','))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is none of {RULES} and no LOW,HIGH') from error
    return [low, high]


def add_train_options(parser: argparse._ActionsContainer) -> None:
    """Options of training."""
    start = parser.add_argument_group('start').add_mutually_exclusive_group()
    parser = parser.add_argument_group('training')
    start.add_argument(
        '--resume',
        '--resume_from',
        '--resume-from',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='continue from FILE, or from latest.pth of the work dir ("auto" or nothing)',
    )
    start.add_argument(
        '--auto-resume',
        '--auto_resume',
        dest='resume',
        action='store_const',
        const='auto',
        help='the same as --resume auto',
    )
    start.add_argument(
        '--load-checkpoint',
        '--load_checkpoint',
        metavar='FILE',
        help='start a new run from all weights of a checkpoint',
    )
    add_schedule_option(parser)
    parser.add_argument(
        '--pretrained', '--from', metavar='FILE', help='start from the backbone in FILE'
    )
    parser.add_argument(
        '--probe',
        metavar='DIR',
        help='during a pre-training, classify the images in the class folders of DIR, or of '
        'DIR/train and DIR/val, by the features: nearest neighbours and a linear probe',
    )
    parser.add_argument(
        '--log',
        metavar='NAMES',
        help=f'also log to: {", ".join(BACKENDS)}; several with commas',
    )
    parser.add_argument('--no-validate', '--no_validate', action='store_true', help='train only')
    parser.add_argument('--no-pin-memory', action='store_true', help='pin_memory=False everywhere')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='persistent_workers=False everywhere',
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument('--amp', action='store_true', help='mixed precision')
    precision.add_argument(
        '--precision',
        choices=PRECISIONS,
        help='auto: bf16 (mixed precision) where the device computes in it, else fp32',
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile')
    parser.add_argument('--seed', type=seed, help='seed of every random draw')
    parser.add_argument('--deterministic', action='store_true', help='deterministic algorithms')
    parser.add_argument(
        '--strict-data',
        '--strict_data',
        action='store_true',
        help='end at the first image that cannot be read instead of taking another one',
    )
    parser.add_argument(
        '--auto-scale-lr',
        '--auto_scale_lr',
        action='store_true',
        help='scale the learning rate with the global batch instead of keeping the batch',
    )
    parser.add_argument(
        '--no-preflight',
        dest='preflight',
        action='store_false',
        help='start without the checks of disk, shared memory and one step, for example where a '
        'file system does not say how much of it is free',
    )


def add_schedule_option(parser: argparse._ActionsContainer) -> None:
    """Option of a training that is resumed to become longer."""
    parser.add_argument(
        '--schedule',
        choices=('follow', 'keep'),
        help='where --resume makes a training longer: its schedules follow the new length (the '
        'default), or end where they did',
    )


def apply_train_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options of training into ``cfg``.

    Raises:
        FileNotFoundError: If a file of weights is missing.
        ValueError: If options contradict each other or the config.
    """
    if args.amp:
        use_mixed_precision(cfg)
    if args.precision:
        use_precision(cfg, args.precision)
    if args.no_validate:
        cfg.update(dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg')))
    for loader in (cfg[name] for name in LOADERS if cfg.get(name)):
        loader.update({'pin_memory': False} if args.no_pin_memory else {})
        loader.update({'persistent_workers': False} if args.no_persistent_workers else {})
    if args.log:
        add_loggers(cfg, args.log.split(','))
    check_loggers(cfg)
    if args.compile:
        cfg.compile = cfg.get('compile') or True
    set_seed(cfg, args.seed)
    set_bad_image_rule(cfg, args.strict_data)
    if args.probe:
        add_probe(cfg, args.probe)
    if args.deterministic:
        cfg.randomness.deterministic = True
        # Without it cuBLAS refuses; read when CUDA starts.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: '
                'the global batch that its learning rate is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if args.load_checkpoint:
        if args.pretrained:
            raise ValueError('--load-checkpoint and --pretrained exclude each other')
        cfg.load_from = checkpoint_file(args.load_checkpoint, '--load-checkpoint')
    if args.pretrained:
        file = checkpoint_file(args.pretrained, '--pretrained')
        kind = {} if args.weights == WEIGHTS[0] else {'weights': args.weights}
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file, **kind)


def set_seed(cfg: Config, seed: int | None) -> None:
    """One seed for weights, order, crops, masks and few labels: ``seed``, or the config's, or 0.

    The runner hands its seed to the sampler, but not to the data set, which draws crops and masks,
    nor to the source, which draws ``labels_per_class``. Images to measure on stay as they are.
    """
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}
    if seed is not None:
        cfg.randomness.seed = seed
    for dataset in find_datasets(cfg.get('train_dataloader')):
        if seed is not None:
            dataset['seed'] = seed
        elif cfg.randomness.seed is not None:
            dataset.setdefault('seed', cfg.randomness.seed)
    learnt = [cfg.get('train_dataloader'), *(hook.get('train') for hook in hooks_of(cfg))]
    for dataset in find_datasets(learnt):
        source = dataset['source']
        if source.get('labels_per_class') is not None and source.get('seed') is None:
            source['seed'] = cfg.randomness.seed


def set_bad_image_rule(cfg: Config, strict: bool) -> None:
    """Substitute bad images in training, unless the config or ``strict`` has them end the run."""
    for dataset in find_datasets(cfg.get('train_dataloader')):
        if strict:
            dataset['on_bad_image'] = 'raise'
        else:
            dataset.setdefault('on_bad_image', 'substitute')


def config_file(path: str) -> str:
    """``path`` itself if it can be opened; for the bare name of a recipe, the path of that.

    Raises:
        FileNotFoundError: If there is none, with the recipes whose names come near.
    """
    if Path(path).exists():
        if Path(path).is_dir():
            raise IsADirectoryError(f'config {path} is a folder; for one of images: --data {path}')
        return existing_file(path, 'config')
    from a2mim.weights.released import config_files

    known = {file.stem: file for file in config_files()}
    stem = Path(path).name.removesuffix('.py')
    if stem in known and os.path.dirname(path) == '':
        return str(known[stem])
    near = [stem] if stem in known else difflib.get_close_matches(stem, known, n=2)
    near = [f'{path}.py'] if Path(f'{path}.py').is_file() else near
    near = near or [name for name in known if len(stem) > 2 and stem in name][:2]
    hint = f'did you mean {" or ".join(near)}?' if near else 'give the path of a config file;'
    raise FileNotFoundError(
        f'config {path}: there is no such file; {hint} `a2mim recipes ls` lists all names'
    )


def existing_file(path: str, option: str) -> str:
    """``path`` itself if it can be opened."""
    if Path(path).is_dir():
        raise IsADirectoryError(f'{option} {path} is a folder; give a file, such as latest.pth')
    if not Path(path).is_file():
        raise FileNotFoundError(f'{option} {path}: there is no such file')
    with open(path, 'rb'):
        return path


def checkpoint_file(path: str, option: str) -> str:
    """``path`` itself if it can be opened, or the last checkpoint of the run whose folder it is."""
    return existing_file(str(last_of_run(path)), option)


def add_out_option(parser: argparse.ArgumentParser, content: str) -> None:
    """Option of a tool that measures: a file for what it found."""
    parser.add_argument('--out', metavar='FILE.json', help=f'write to a file: {content}')


def check_out(path: str | None) -> None:
    """Refuse a file that cannot be written before there is anything to write."""
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f'--out {path}: there is no folder {Path(path).parent}')
    if Path(path).is_dir():
        raise IsADirectoryError(f'--out {path} is a folder; give the name of a file in it')


# Errors whose message is meant for the user. Of any other, such as an AttributeError, the line also
# tells the type and how to see more.
USER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    ImportError,
    SyntaxError,
    AssertionError,
    pickle.UnpicklingError,
)
TRACEBACK = 'A2MIM_TRACEBACK'
# What may come at any time, and is said in one line then too.
EXPECTED = {
    BadDataError: USER_ERROR,
    NotFiniteError: NOT_FINITE,
    NotFiniteStateError: NOT_FINITE,
    NotWrittenError: NOT_WRITTEN,
    MissingError: TRY_AGAIN,
    StorageError: TRY_AGAIN,
}
PATIENCE = 10  # seconds


@contextmanager
def one_line_errors(training: 'FirstIteration | None' = None) -> Iterator[None]:
    """Turn an error inside the block into one line on stderr and exit code 2, Ctrl-C into 130.

    Args:
        training: Once its iteration is done, errors pass through, but for the ``EXPECTED`` ones.
    """
    try:
        yield
    except Exception as error:
        code = next((EXPECTED[kind] for kind in EXPECTED if isinstance(error, kind)), None)
        late = training is not None and training.done and code is None
        if late or os.environ.get(TRACEBACK, '0') not in ('', '0'):
            raise
        rank = os.environ.get('LOCAL_RANK', '0')
        report(sentence(error), process=int(rank) if rank.isdecimal() else 0)
        raise SystemExit(code or USER_ERROR) from error
    except KeyboardInterrupt:
        if os.environ.get(TRACEBACK, '0') not in ('', '0'):
            raise
        if os.environ.get('LOCAL_RANK', '0') == '0':
            sys.stderr.write(f'stopped by Ctrl-C{what_is_left(training)}\n')
        raise SystemExit(INTERRUPTED) from None


def what_is_left(training: 'FirstIteration | None') -> str:
    """What a training that Ctrl-C has ended leaves to resume from, to end a sentence."""
    if training is None:
        return ''
    if training.done:
        return ': --resume auto continues from the last checkpoint'
    return ' before the first step: nothing new to save; start again with the same command'


def report(text: str, process: int) -> None:
    """Say on stderr what is wrong, once for all processes of this machine.

    Most errors are met by all of them. The first one speaks, and its exit ends the others; one
    that is still there a little later has met an error of its own.
    """
    if process:
        time.sleep(PATIENCE)
    sys.stderr.write(f'error{f" (process {process})" if process else ""}: {text}\n')


def sentence(error: BaseException) -> str:
    """What ``error`` has to say, on one line."""
    # str() of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if lines and 'in DataLoader worker process' in lines[0]:
        # The worker's whole traceback is in the message; its last line is the error itself.
        kind, _, text = lines[-1].partition(': ')
        known = {one.__name__ for one in (*USER_ERRORS, *EXPECTED)}
        return text if text and kind.rpartition('.')[2] in known else lines[-1]
    said = ' '.join(lines)
    if refused := re.search(r"unexpected keyword argument '(\w+)'", said):
        from a2mim.engine.config_check import of_another_type

        said += of_another_type(refused[1], 'its entry')
    if said and isinstance(error, (*USER_ERRORS, *EXPECTED)):
        return said
    name = type(error).__name__
    return f'{name}: {said} ({TRACEBACK}=1 shows where)' if said else name
