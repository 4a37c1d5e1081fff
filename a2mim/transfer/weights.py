"""Weights of a backbone for MMDetection or MMSegmentation: all of them, or an error."""

from torch import nn

from a2mim.registry import WEIGHT_INITIALIZERS
from a2mim.weights.fit import Policy, load_backbone
from a2mim.weights.safe_load import asked_weights, choose_weights, load_file

STAGES = Policy(
    resize=True,
    subset=True,
    advice='Give weights of the same architecture, such as extract_backbone_weights.py writes.',
)


@WEIGHT_INITIALIZERS.register_module()
class TrunkPretrained:
    """Take every weight of a module from the backbone in a file, and log how many.

    The file is any that this package writes or imports: an extracted backbone, a whole checkpoint,
    or weights of another system. Positions are resized to the image size of a timm network. The
    file may have more than the module: a classifier, stages above its last one, tables of relative
    positions that its config leaves out. A stage may not be deeper in the file.

    Args:
        checkpoint: The file.
        part: The part of the backbone that is in the module, such as ``'layer4'``; everything else
            in the module is new and keeps its values. None: the module is all backbone.
        weights: ``'averaged'`` or ``'raw'``, where the file has both; None: as the command line
            says.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or a tensor of the module is missing in it, has another
            shape or belongs to another architecture; or the module is a network of MMPretrain.
    """

    def __init__(
        self, checkpoint: str, part: str | None = None, weights: str | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.part = part
        self.weights = weights

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``."""
        if type(module).__module__.startswith('mmpretrain.'):
            # The last norm of each block would become zero, positions and MLPs random.
            raise ValueError(
                f'{type(module).__name__} of MMPretrain initialises itself again after '
                "TrunkPretrained; use init_cfg=dict(type='Pretrained', checkpoint=PATH, "
                "prefix='backbone.model.'); no prefix for a file of a2mim export --to mmpretrain"
            )
        content = load_file(self.checkpoint)
        with choose_weights(self.weights or asked_weights()):
            load_backbone(module, content, self.checkpoint, STAGES, part=self.part)
