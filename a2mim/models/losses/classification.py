"""Classification losses: timm's and torch's, under the names that our configs use."""

from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import CrossEntropyLoss

from a2mim.registry import MODELS

for loss in (
    BinaryCrossEntropy,
    CrossEntropyLoss,
    LabelSmoothingCrossEntropy,
    SoftTargetCrossEntropy,
):
    MODELS.register_module(module=loss)
