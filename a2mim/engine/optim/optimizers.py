"""timm's optimisers under short names; torch's are known to mmengine already."""

from timm.optim import Lamb

from a2mim.registry import OPTIMIZERS

OPTIMIZERS.register_module(module=Lamb)
