import pytest
import torch

from a2mim.registry import OPTIMIZERS

# What the fine-tuning recipes write; the rest must be timm's defaults.
RECIPE = dict(type='Lamb', lr=8e-3, weight_decay=0.02)


def published_step(weight: torch.Tensor, grad: torch.Tensor, weight_decay: float) -> torch.Tensor:
    """First LAMB step of the published system, from its formula."""
    clipped = grad / max(1.0, grad.norm().item())
    average, square = 0.1 * clipped, 0.001 * clipped**2
    update = (average / (1 - 0.9)) / ((square / (1 - 0.999)).sqrt() + 1e-6)
    if weight_decay:
        update = update + weight_decay * weight
        update = update * (weight.norm() / update.norm())
    return weight - 8e-3 * update


@pytest.mark.parametrize('weight_decay', [0.02, 0.0])
@pytest.mark.parametrize('scale', [0.01, 100.0])
def test_a_step_equals_the_published_formula(weight_decay, scale):
    weight = torch.randn(5, 3, dtype=torch.double)
    grad = scale * torch.randn(5, 3, dtype=torch.double)
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = grad
    group = dict(params=[parameter], weight_decay=weight_decay)
    OPTIMIZERS.build({**RECIPE, 'params': [group]}).step()
    torch.testing.assert_close(parameter.data, published_step(weight, grad, weight_decay))
