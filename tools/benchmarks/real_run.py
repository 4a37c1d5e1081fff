"""A training by the runner of ``tools/train.py``, whose iterations are called one at a time.

An iteration is that of the training loop with everything that belongs to it: the preprocessor, the
finite guard, seeds, schedules, log lines and all other hooks. Only the loader is left out: each
iteration gets the same batch, which the loader of the config made once.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from mmengine.runner import Runner

import a2mim.datasets
import a2mim.engine
import a2mim.models  # noqa: F401, registers the parts of the recipes
from a2mim.engine.command_line import add_common_options, add_train_options
from a2mim.engine.launch import build_train_runner
from a2mim.engine.loops import EpochBasedTrainLoop, Finishes
from a2mim.engine.processes import WorkDirLock

CONFIGS = Path(__file__).parents[2] / 'configs'
PRETRAIN = CONFIGS / 'openmixup/pretrain/a2mim/imagenet'
RECIPES = {
    'resnet50': 'r50_l3_sz224_init_8xb256_cos_ep300.py',
    'vit_base': 'vit_base_l0_sz224_8xb128_accu2_step_ep800.py',
    'convnext_small': 'convnext_s_l3_sz224_init_8xb256_cos_ep300.py',
    'mae_vit_base': str(CONFIGS / 'mae/mae_vit-base-p16_8xb512-cos-1600e_in1k.py'),
    'spark_resnet50': str(CONFIGS / 'spark/spark_resnet50_8xb512-cos-1600e_imagenet-224px.py'),
    'data2vec_vit_base': str(CONFIGS / 'features/data2vec_vit-base-p16_8xb256-cos-800e_in1k.py'),
}
# To try a benchmark: the same families, in seconds on a CPU.
REDUCED = {
    'resnet50': {'model_name': 'resnet10t'},
    'vit_base': {'embed_dim': 32, 'depth': 2, 'num_heads': 2},
    'convnext_small': {'model_name': 'convnext_atto'},
    'mae_vit_base': {'embed_dim': 32, 'depth': 2, 'num_heads': 2},
    'spark_resnet50': {'model_name': 'resnet10t'},
    'data2vec_vit_base': {'embed_dim': 32, 'depth': 2, 'num_heads': 2},
}
REDUCED_SIZE = 64
EPOCH = 4  # batches


def recipe_options(
    name: str, batch: int, image_size: int, dtype: str, *, reduced: bool = False
) -> list[str]:
    """``KEY=VALUE`` options of the shipped recipe of ``name``; gradients are not accumulated."""
    options = {
        'log_level': 'WARNING',
        'auto_scale_lr.enable': True,  # the batch stays what is asked for
        'optim_wrapper.accumulative_counts': 1,
        'optim_wrapper.type': 'OptimWrapper',
        'train_dataloader.batch_size': batch,
        'train_dataloader.num_workers': 0,
        'train_dataloader.dataset.pipeline.0.size': image_size,
        'train_dataloader.dataset.mask.image_size': image_size,
    }
    if dtype != 'float32':
        options |= {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': dtype}
    if 'vit' in name:  # its positions are made for one size
        options['model.backbone.img_size'] = image_size
    if reduced:
        options |= {f'model.backbone.{key}': value for key, value in REDUCED[name].items()}
        options |= {'model.neck.width': 64} if name == 'spark_resnet50' else {}
    return [f'{key}={value}' for key, value in options.items()]


def write_images(folder: Path, count: int) -> None:
    """``count`` JPEG files of coloured waves, a few KB each."""
    folder.mkdir(parents=True)
    contents = [encode_waves(number) for number in range(5)]
    for number in range(count):
        (folder / f'{number:05}.jpg').write_bytes(contents[number % len(contents)])


def encode_waves(number: int) -> bytes:
    """A JPEG file of 256 pixels a side."""
    y, x = np.mgrid[:256, :256, :3][:2] / 256 * 2 * np.pi
    turns = number + np.array([1, 2, 3])
    waves = np.sin(x * turns + number) * np.cos(y * turns)
    return cv2.imencode('.jpg', (127.5 + 100 * waves).astype(np.uint8))[1].tobytes()


class RealRun:
    """A run that has begun, before its first iteration.

    Args:
        config: Path of the config.
        folder: Receives the images and the work dir.
        images: To train on; one batch of them is used.
        options: ``KEY=VALUE`` changes of the config.
        arguments: Of ``tools/train.py`` beside these.
    """

    def __init__(
        self,
        config: Path,
        folder: Path,
        options: Sequence[str],
        images: int,
        arguments: Sequence[str] = (),
    ) -> None:
        parser = argparse.ArgumentParser()
        add_common_options(parser)
        add_train_options(parser)
        if not (folder / 'images').exists():
            write_images(folder / 'images', images)
        data = ['--data-root', str(folder / 'images'), '--work-dir', str(folder / 'run')]
        argv = [str(config), *data, '--no-preflight', *arguments, '--cfg-options', *options]
        self._stack = ExitStack()
        lock = self._stack.enter_context(WorkDirLock())
        self.runner: Runner = build_train_runner(parser.parse_args(argv), lock)
        self.loop = cast(EpochBasedTrainLoop, self.runner.train_loop)
        # Runner.train prepares everything and starts the loop, which begins here and ends in close.
        self.loop.run = lambda: self.runner.model
        self.runner.train()
        self.batch = next(iter(self.loop.dataloader))
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self._iterations = self._iterate()

    def step(self) -> None:
        """One iteration, as in the loop of the runner."""
        next(self._iterations)

    def _iterate(self) -> Iterator[None]:
        batches = self.loop.waited_for(itertools.repeat(self.batch))
        for index, batch in enumerate(batches, EPOCH):  # beyond the last of an epoch
            with self.loop.step():
                self.loop.run_iter(index, cast(Sequence, batch))
            yield

    def close(self) -> None:
        """End the run as an interrupted one: signals and files are given back."""
        for hook in self.runner.hooks:
            if isinstance(hook, Finishes):
                hook.finish(self.runner)
        self._stack.close()

    def __enter__(self) -> 'RealRun':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def real_recipe(
    name: str,
    folder: Path,
    args: argparse.Namespace,
    arguments: Sequence[str] = (),
    options: Sequence[str] = (),
) -> RealRun:
    """The shipped recipe of ``name`` on ``args.device``, with ``args.batch`` images.

    Args:
        name: Key of ``RECIPES``.
        folder: Receives the images and the work dir.
        args: ``batch``, ``image_size``, ``dtype``, ``device`` and ``reduced``.
        arguments: Further ones of ``tools/train.py``.
        options: Further ``KEY=VALUE`` changes of the config.

    Raises:
        ValueError: If the runner would take another device.
    """
    found = 'cuda' if torch.cuda.is_available() else 'cpu'
    if args.device != found:
        raise ValueError(
            f'--device {args.device}: the runner takes {found} here; to measure the CPU of a '
            'machine with a GPU set CUDA_VISIBLE_DEVICES='
        )
    size = REDUCED_SIZE if args.reduced else args.image_size
    changes = recipe_options(name, args.batch, size, args.dtype, reduced=args.reduced)
    config, images = PRETRAIN / RECIPES[name], EPOCH * args.batch
    return RealRun(config, folder, [*changes, *options], images, arguments)
