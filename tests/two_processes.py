"""Pre-training of a ViT in two processes on the CPU, sharded or copied."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from mmengine import Config

from toy_run import ROOT, toy_config

SHARDED = 'model_wrapper_cfg.type=FullyShard'


def pretraining(images: Path) -> Config:
    """Two epochs of three optimiser steps, with everything that reads gradients or features.

    Token and blocks under gradient checkpointing, rates by depth, clipping, two iterations per
    step, pictures and a probe.
    """
    cfg = toy_config(images, train_cfg__max_epochs=2)
    cfg.model = dict(
        type='A2MIM',
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=dict(
            type='TimmBackbone',
            model_name='test_vit',
            img_size=32,
            mask_after='blocks.2',
            grad_checkpointing=True,
        ),
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
    )
    labelled = cfg.val_dataloader.dataset
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(name)
    mask = dict(type='BlockMask', image_size=32, block_size=16, ratio=0.5)
    cfg.train_dataloader.batch_size = 1
    cfg.train_dataloader.dataset.update(type='MaskedImageDataset', mask=mask)
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        constructor='ParamRuleConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(layer_decay=0.7, rules={'bias': dict(weight_decay=0.0)}),
        clip_grad=dict(max_norm=0.1),
    )
    # Of 12 images, 2 processes take 1 per iteration, and 2 iterations make a step.
    cfg.auto_scale_lr = dict(base_batch_size=4, enable=False)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 3
    cfg.custom_hooks = [
        dict(type='ReconstructionHook', interval=1),
        dict(type='FeatureProbeHook', interval=1, neighbours=2, train=labelled, test=labelled),
    ]
    return cfg


def torchrun(cwd: Path, *args: str, processes: int = 2, **variables: str) -> subprocess.Popen:
    """``tools/dist_train.sh`` for a config and its options."""
    # The rendezvous of a run that started this one must not leak into it.
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}
    base = dict(PYTHON=sys.executable, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    base |= dict(CUDA_VISIBLE_DEVICES='')  # gloo, wherever the test runs
    return subprocess.Popen(
        ['bash', str(ROOT / 'tools/dist_train.sh'), args[0], str(processes), *args[1:]],
        cwd=cwd,
        env={**clean, **base, 'PORT': free_port(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Output of a run that must succeed."""
    try:
        output, _ = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, output
    return output


def free_port() -> str:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])
