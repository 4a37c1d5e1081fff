"""Put a config together from what was found and chosen, and the lines that say so."""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from torch import Tensor

from a2mim.datasets import ImageFolder
from a2mim.engine.config_edit import PRECISIONS, probe_parts
from a2mim.engine.loggers import add_loggers, check_loggers
from a2mim.length import pretraining_epochs
from a2mim.own_data.config_text import NAME, Section, config_text
from a2mim.own_data.images import Images
from a2mim.own_data.length import (
    Length,
    finetuning_epochs,
    learning_rate,
    process_start,
    seconds_of,
)
from a2mim.own_data.methods import METHODS, TOKEN_RULE
from a2mim.own_data.network import (
    Choice,
    batch_of,
    blank_image,
    blocks_for_teacher,
    choose_teacher,
    fitting_batch,
    opens_branches,
    step_seconds,
)
from a2mim.own_data.run import devices_of, say, workers

# Learning rate, the images a step that it is for, and by what it falls: configs/own_data.
PRETRAINING, FINETUNING = (5e-4, 128, 50), (5e-4, 64, 500)
OPEN_BRANCHES = 3000  # steps, from which residual branches may start at zero
SHRINK = 224 / 256  # a crop at the centre, of the resized image
LOGGED = 50  # steps from one line of the log to the next
RULES = {
    '(bn[0-9]|norm[0-9]*|downsample[.]1)[.]': dict(weight_decay=0.0),
    'bias': dict(weight_decay=0.0),
}
# What is said in a comment above an entry.
ABOUT = {
    'train_dataloader': ('images', 'size', 'batch', 'mask'),
    'val_dataloader': ('validation',),
    'model': ('channels', 'scale', 'backbone', 'branches'),
    'optim_wrapper': ('rate',),
    'train_cfg': ('length',),
}


class Plan:
    """A run, from its images to its config.

    Args:
        args: Options of the command; see ``add_folder_options``.

    Attributes:
        said: What was found and chosen, by a name, for a person and for comments.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.devices = devices_of(args.devices)
        check_extras(args)
        self.said: dict[str, str] = {}

    def say(self, **lines: str) -> None:
        """Print ``lines``, a name and a sentence each, and keep them for the config."""
        say(lines)
        self.said |= lines

    def pretraining(self, images: Images, choice: Choice, size: int) -> dict[str, Any]:
        """Entries of the config of a pre-training."""
        method, teacher = METHODS[self.args.method], None
        if self.args.teacher:
            teacher = choose_teacher(self.args.teacher, size, images.channels)
            choice = blocks_for_teacher(choice, teacher, size, images.channels)
        backbone = {'type': 'TimmBackbone', **choice.backbone}
        model = method.model(images.preprocessor(), backbone, choice.mask_after, teacher)
        self.say(mask=choice.mask())
        example = dict(image=blank_image(images.channels, size), mask=choice.blank_mask())
        batch, length = self._steps(model, example, images.number, pretraining_epochs)
        self._open_branches(model['backbone'], length)
        if self.args.pretrained:
            start = dict(type='Pretrained', checkpoint=str(Path(self.args.pretrained).absolute()))
            model['backbone']['init_cfg'] = start
        data = dict(
            type='MaskedImageDataset',
            source=images.source(),
            pipeline=[
                dict(type='RandomResizedCrop', size=size, scale=(method.smallest, 1.0)),
                dict(type='RandomFlip'),
            ],
            mask=dict(
                type='BlockMask', image_size=size, block_size=choice.block, ratio=choice.ratio
            ),
        )
        probe = dict(type='UnlabelledProbeHook', interval=length.interval)
        pictures = dict(type='ReconstructionHook', interval=length.interval)
        rules = RULES | (TOKEN_RULE if method.token else {})
        rest = self._training(batch, length, PRETRAINING, rules, [probe])
        rest['default_hooks']['reconstruction'] = pictures
        return dict(train_dataloader=loader(data, batch, drop_last=True), model=model, **rest)

    def finetuning(
        self, train: dict, val: dict, number: int, model: dict, channels: int, size: int
    ) -> dict[str, Any]:
        """Entries of the config of a fine-tuning.

        Args:
            train: Config of the source of images.
            val: The same.
            number: Of images to train on.
            model: Config of the classifier.
            channels: Of the images.
            size: Side in pixels.
        """
        example = dict(image=blank_image(channels, size), label=torch.tensor(0))
        batch, length = self._steps(model, example, number, finetuning_epochs)
        crops = dict(type='RandomResizedCrop', size=size, scale=(0.25, 1.0))
        learnt = dict(
            type='ImageDataset',
            source=train,
            pipeline=[{**crops, 'interpolation': 'bicubic'}, dict(type='RandomFlip')],
        )
        centre = [dict(type='Resize', size=round(size / SHRINK))]
        centre.append(dict(type='CenterCrop', size=size))
        tested = loader(dict(type='ImageDataset', source=val, pipeline=centre), batch)
        tested['sampler'] = dict(type='DefaultSampler', shuffle=False)
        rest = self._training(batch, length, FINETUNING, RULES, [], validates=True)
        return dict(
            train_dataloader=loader(learnt, batch, drop_last=True),
            val_dataloader=tested,
            val_evaluator=dict(type='Accuracy', topk=(1,)),
            val_cfg={},
            model=model,
            **rest,
        )

    def write(self, title: str, command: str, entries: dict[str, Any]) -> Path:
        """Write the config to the folder of the run, and say how to repeat it."""
        sections: list[Section] = [((), 'default_scope', 'a2mim')]
        for name, value in entries.items():
            told = [key for key in ABOUT.get(name, ()) if key in self.said]
            sections.append(([f'{key}: {self.said[key]}' for key in told], name, value))
        path = self.args.out / NAME
        self.args.out.mkdir(parents=True, exist_ok=True)
        path.write_text(config_text(title, command, path, sections), encoding='utf-8')
        say({'config': f'{path}; python tools/train.py {path} repeats the run'})
        return path

    def _steps(
        self,
        model: dict,
        example: dict[str, Tensor],
        number: int,
        automatic: Callable[[int], tuple[int, str]],
    ) -> tuple[int, Length]:
        """Images a step of one process, and the length of the run.

        Args:
            model: Config of the algorithm.
            example: One image, and what belongs to it.
            number: Of images.
            automatic: Epochs by the steps of one, and why.
        """
        batch = self._batch(model, example, number)
        pace = 0.0
        if self.args.time:
            pace = step_seconds(model, batch_of(example, batch), self.args.precision)
        return batch, self._length(number // (batch * self.devices), automatic, pace)

    def _batch(self, model: dict, example: dict[str, Tensor], number: int) -> int:
        """Images a step of one process."""
        share = number // self.devices
        if self.args.batch_size == 'auto':
            batch, why = fitting_batch(model, example, share, self.args.precision)
        else:
            batch, rest = divmod(self.args.batch_size, self.devices)
            why = '--batch-size'
            if rest:
                near = ' or '.join(str(n * self.devices) for n in (batch, batch + 1) if n)
                raise ValueError(
                    f'--batch-size {self.args.batch_size} is no multiple of the {self.devices} '
                    f'processes; give {near}'
                )
        if not 1 <= batch <= share:
            raise ValueError(
                f'--batch-size {self.args.batch_size}: {number} images in {self.devices} '
                f'process(es) make no step of it; give {self.devices} to {share * self.devices}'
            )
        of = f' in each of {self.devices} processes' if self.devices > 1 else ''
        self.say(batch=f'{batch} images a step{of}: {why}')
        return batch

    def _length(
        self, per_epoch: int, automatic: Callable[[int], tuple[int, str]], pace: float
    ) -> Length:
        """Of the run; of one that a time limits, what is expected at ``pace`` seconds a step."""
        args = self.args
        epochs, why = automatic(per_epoch)
        if args.epochs != 'auto':
            epochs, why = args.epochs, '--epochs'
        until = None
        if args.time:
            until = process_start() + seconds_of(args.time)
            steps = max(1, round((until - time.time()) / pace))
            epochs = math.ceil(steps / per_epoch)
            why = f'what --time {args.time} allows, about {steps} steps, decided on the way'
        length = Length(epochs, per_epoch, why, until)
        what = f'{length.steps} steps, {epochs} × {per_epoch} (epochs × steps): {why}'
        self.say(length=why if until else what)
        return length

    def _open_branches(self, backbone: dict, length: Length) -> None:
        """Let residual branches start open where the run is short."""
        short = length.until is not None or length.steps < OPEN_BRANCHES
        if short and opens_branches(backbone):
            backbone['zero_init_last'] = False
            few = f'fewer than {OPEN_BRANCHES} steps hardly open those that start at zero'
            self.say(branches=f'zero_init_last=False: {few}')

    def _training(
        self,
        batch: int,
        length: Length,
        rule: tuple[float, int, int],
        rules: dict,
        probes: list[dict],
        *,
        validates: bool = False,
    ) -> dict[str, Any]:
        """Entries on optimiser, length, hooks and logs."""
        base, base_batch, falls = rule
        whole = batch * self.devices
        rate = learning_rate(base, base_batch, whole)
        self.say(
            rate=f'{rate:g}: {base:g} for {base_batch} images a step, by the root of their number'
        )
        logged = max(1, min(LOGGED, length.steps // 20))
        often = length.epochs >= 2 and length.until is None
        saved = length.interval if often else max(LOGGED, length.steps // 10)
        return dict(
            optim_wrapper=dict(
                **PRECISIONS[self.args.precision],
                constructor='ParamRuleConstructor',
                optimizer=dict(type='AdamW', lr=rate, weight_decay=0.05, fused=True),
                clip_grad=dict(max_norm=5.0),
                paramwise_cfg=dict(rules=rules),
            ),
            auto_scale_lr=dict(base_batch_size=whole, enable=False),
            **length.entries(rate, falls, validates),
            custom_hooks=[*probes, *length.hooks()],
            **records(logged, saved, by_epoch=often),
            randomness=dict(seed=self.args.seed),
        )


def check_extras(args: argparse.Namespace) -> None:
    """Refuse ``--log`` and ``--probe`` before anything is looked at.

    Raises:
        ValueError, ImportError, FileNotFoundError: As the training would.
    """
    if args.log:
        add_loggers(trial := Config(), args.log.split(','))
        check_loggers(trial)
    if getattr(args, 'probe', None):
        for part in probe_parts(args.probe):
            ImageFolder(str(part), with_labels=True)


def records(logged: int, saved: int, *, by_epoch: bool) -> dict[str, dict]:
    """Entries on logs, checkpoints and the machine.

    Args:
        logged: Steps from one line of the log to the next.
        saved: Epochs or steps from one checkpoint to the next.
        by_epoch: Whether these are epochs.
    """
    checkpoint = dict(type='CheckpointHook', interval=saved, by_epoch=by_epoch, max_keep_ckpts=1)
    back_ends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    return dict(
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=logged),
            checkpoint=checkpoint,
            loss_curve=dict(type='LossCurveHook'),
        ),
        log_processor=dict(type='SpeedLogProcessor', window_size=logged),
        visualizer=dict(type='Visualizer', vis_backends=back_ends),
        env_cfg=dict(
            cudnn_benchmark=True,
            mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
            dist_cfg=dict(backend='nccl'),
        ),
    )


def loader(dataset: dict, batch: int, *, drop_last: bool = False) -> dict:
    """Config of a data loader."""
    return dict(
        batch_size=batch,
        num_workers=workers(),
        persistent_workers=True,
        pin_memory=True,
        drop_last=drop_last,
        sampler=dict(type='EpochSampler', shuffle=True),
        collate_fn=dict(type='a2mim.channels_last_collate'),
        dataset=dataset,
    )
