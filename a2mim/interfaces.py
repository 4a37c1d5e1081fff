"""What the package asks of a network beyond ``nn.Module``, for readers and the type checker.

torch types an attribute of a module as ``Tensor | Module``, and a ``Protocol`` cannot extend
``nn.Module``; so these are subclasses that declare attributes and are never instantiated. timm's
networks and our models have the attributes without inheriting from here: annotate with these
classes, or ``cast`` to them, where a network comes from ``timm.create_model`` or a registry.

Axes: B batch, C channels, (H, W) features or pixels, (h, w) mask blocks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

# Where probes leave {name: [epochs, values]} in the message hub of a run, and so in checkpoints.
PROBES = 'probes'

if TYPE_CHECKING:

    class TimmNetwork(nn.Module):
        """A network of timm."""

        num_classes: int
        num_features: int
        feature_info: Any  # a FeatureInfo, or a list of dicts with module, num_chs, reduction
        patch_embed: Any  # timm's PatchEmbed, of networks with patches
        pretrained_cfg: dict[str, Any]
        default_cfg: dict[str, Any]
        forward_features: Callable[[Tensor], Tensor]
        forward_head: Callable[..., Tensor]
        forward_intermediates: Callable[..., Any]
        get_classifier: Callable[[], nn.Module]
        reset_classifier: Callable[..., None]
        group_matcher: Callable[..., dict[str, Any]]
        no_weight_decay: Callable[[], set[str]]
        set_grad_checkpointing: Callable[..., None]

    class MaskedBackbone(nn.Module):
        """A backbone that can mask features; ``TimmBackbone`` is one."""

        model: TimmNetwork
        mask_token: nn.Module | None
        mask_after: str | None
        out_channels: Any  # int, or one per map
        stride: Any  # int, (height, width), or None for a classifier
        prefers_channels_last: bool
        init_weights: Callable[[], None]
        check_mask_grid: Callable[[tuple[int, int], tuple[int, int]], None]

    class Algorithm(nn.Module):
        """A model of ours as the Runner trains it: ``A2MIM``, ``SimMIM``, ``ImageClassifier``."""

        backbone: MaskedBackbone
        data_preprocessor: Any  # an ImagePreprocessor
        neck: nn.Module
        head: Any  # an MIMHead
        input_spec: Any  # an InputSpec, set by load_model
        predict: Callable[..., dict[str, Tensor]]
        init_weights: Callable[[], None]
else:
    TimmNetwork = MaskedBackbone = Algorithm = nn.Module
