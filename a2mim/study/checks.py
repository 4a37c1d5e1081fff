"""What can be wrong with a study, found before its first run."""

import torch
from mmengine import Config

from a2mim.engine.command_line import set_seed
from a2mim.engine.config_check import check_mask, check_names, check_option_names
from a2mim.engine.config_edit import set_data_root
from a2mim.registry import DATASETS, MODELS, TRANSFORMS
from a2mim.study.matrix import PRETRAIN, Job, Study
from a2mim.weights.config_files import read_config


def check_study(study: Study, data_root: str | None = None) -> None:
    """Build every network with every start, and every draw of labels, without training.

    Args:
        study: The matrix.
        data_root: Folder of the images, for studies that read files.

    Raises:
        ValueError: If a network has no place for the token of a start, a class has fewer images
            than a label count, or a config does not validate and test.
    """
    seed = study.rate_seeds[0]
    for network in study.networks:
        for start in study.starts_of(network):
            if study.starts[start] is not None:
                check_start(study, Job(PRETRAIN, network, start, seed))
        for labels in study.labels:
            check_labels(
                study, Job('final', network, next(iter(study.starts)), seed, labels), data_root
            )


def changed_config(study: Study, job: Job) -> Config:
    """The config of a run with its changes."""
    cfg = read_config(study.config(job))
    changes = study.changes(job)
    check_option_names(cfg, changes)
    cfg.merge_from_dict(changes)
    check_names(cfg)
    set_seed(cfg, job.seed)
    return cfg


def check_start(study: Study, job: Job) -> None:
    """Check that the mask of the images fits the features at the token.

    Raises:
        ValueError: If not, with the network and the start.
    """
    try:
        cfg = changed_config(study, job)
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        mask = TRANSFORMS.build(cfg.train_dataloader.dataset.mask)
        check_mask(model, mask)
    except (ValueError, TypeError, KeyError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(f'{job.network} cannot start by {job.start}: {reason}') from error


def check_labels(study: Study, job: Job, data_root: str | None) -> None:
    """Check that a class has as many images as are asked for, and that rates can be chosen.

    Raises:
        ValueError: If not, with the network and the label count.
    """
    cfg = changed_config(study, job)
    for name in ('val_dataloader', 'test_dataloader'):
        if not cfg.get(name):
            raise ValueError(f'{study.config(job)} has no {name}, by which the study measures')
    if data_root:
        set_data_root(cfg, data_root)
    try:
        DATASETS.build(cfg.train_dataloader.dataset.source)
    except ValueError as error:
        raise ValueError(f'{job.network} with labels {job.labels}: {error}') from error
