"""PRETRAIN of a command line, in every place of a model that takes weights of a trunk."""

from collections.abc import Iterator

from mmengine import Config

INITIALIZER = 'a2mim.TrunkPretrained'
FROM_SCRATCH = 'none'


def set_pretrain(cfg: Config, pretrain: str) -> None:
    """Let every part of ``cfg.model`` that takes weights of a trunk take them from ``pretrain``.

    Those parts have ``init_cfg=dict(type='a2mim.TrunkPretrained', ...)`` in the config.

    Args:
        cfg: Config of MMDetection or MMSegmentation, changed in place.
        pretrain: A file, or ``'none'`` to train from scratch.

    Raises:
        ValueError: If no part takes weights.
    """
    parts = [*trunk_parts(cfg.model)]
    if not parts:
        raise ValueError(
            f'no part of the model takes weights from PRETRAIN={pretrain}: give its backbone '
            f"init_cfg=dict(type='{INITIALIZER}', checkpoint='PRETRAIN')"
        )
    for part in parts:
        if pretrain == FROM_SCRATCH:
            part['init_cfg'] = None
        else:
            part['init_cfg']['checkpoint'] = pretrain


def check_shared_head(cfg: Config) -> None:
    """Refuse a detector without a shared head that takes weights: it is no C4 detector.

    Raises:
        ValueError: If so.
    """
    head = cfg.model.get('roi_head', {}).get('shared_head', {})
    if not any(part is head for part in trunk_parts(cfg.model)):
        raise ValueError(
            f'{cfg.filename} has no model.roi_head.shared_head that takes weights; start it with '
            'mim_dist_train.sh'
        )


def trunk_parts(node: object) -> Iterator[dict]:
    """Every config below ``node`` with weights of a trunk as its ``init_cfg``."""
    if isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == INITIALIZER:
            yield node
        children = node.values()
    else:
        children = node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from trunk_parts(child)
