"""The lower part of a trunk kept as it is in training, and batch norm that keeps its statistics.

Stage 0 is the stem: whatever timm counts as such, with the class token and the positions of a
ViT. The stages above it are those of timm's ``feature_info``; for a ViT they are its blocks.
"""

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def keep_stages(model: nn.Module, frozen_stages: int, *, norm_eval: bool) -> list[nn.Module]:
    """Take the gradient from the stem and the first ``frozen_stages`` stages.

    Args:
        model: A timm model.
        frozen_stages: -1 for nothing, 0 for the stem alone.
        norm_eval: Whether the statistics of every batch norm are kept as well.

    Returns:
        The modules to keep in evaluation mode: those that are frozen as a whole, and batch norms.

    Raises:
        ValueError: If the model has no so many stages.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = norms if norm_eval else []
    if frozen_stages == -1:
        return kept
    frozen = _names_below(model, frozen_stages)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for path, module in model.named_modules():
        own = {f'{path}.{name}' for name, _ in module.named_parameters()}
        if own and own <= frozen:
            kept.append(module)
    return kept


def _names_below(model: nn.Module, frozen_stages: int) -> set[str]:
    stage_of = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    stages = tuple(f'{info["module"]}.' for info in model.feature_info)
    highest = max(stage for name, stage in stage_of.items() if name.startswith(stages))
    if not 0 <= frozen_stages <= highest:
        raise ValueError(
            f'frozen_stages={frozen_stages} must be within -1 and {highest}, the stages of '
            f'{type(model).__name__}'
        )
    return {name for name, stage in stage_of.items() if stage <= frozen_stages}
