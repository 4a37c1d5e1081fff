"""The units in which a model is sharded: the blocks that repeat."""

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The innermost modules that stand in a row of modules of one class.

    timm builds every family from such rows: ``blocks`` of a ViT, ``stages.2.blocks`` of a
    ConvNeXt, ``layer3`` of a ResNet, ``layers.0.blocks`` of a Swin. Parameters are collected block
    by block, so that a process never holds more than a few of them whole; what is outside the
    blocks (embeddings, norms, decoder, head) makes one unit more.
    """
    return [block for child in model.children() for block in blocks_below(child, alone=True)]


def blocks_below(module: nn.Module, *, alone: bool) -> list[nn.Module]:
    """Blocks in ``module``, or ``module`` itself if it is one and has none inside.

    Args:
        module: Where to look.
        alone: Whether ``module`` is no part of a row.
    """
    in_row = is_row(module)
    inside = [
        block for child in module.children() for block in blocks_below(child, alone=not in_row)
    ]
    return inside if inside or alone else [module]


def is_row(module: nn.Module) -> bool:
    """Whether ``module`` is a list of at least two trained modules of one class.

    Not of further lists: under gradient checkpointing timm calls the modules in a list itself.
    """
    children = [*module.children()]
    return (
        isinstance(module, CONTAINERS)
        and len(children) > 1
        and len({type(child) for child in children}) == 1
        and not isinstance(children[0], CONTAINERS)
        and all(any(True for _ in child.parameters()) for child in children)
    )
