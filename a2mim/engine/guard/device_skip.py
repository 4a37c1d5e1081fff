"""Optimisers that skip an update on the device, without the processor knowing.

torch's fused optimisers read the tensor ``optimizer.found_inf`` in their kernel, as
``torch.amp.GradScaler`` uses it: 1 leaves parameters, moments and step counts as they are.
"""

import torch
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

FUSED = (Adam, AdamW, SGD)
WORTH_IT = ('cuda',)  # devices for which the host should not wait


def prefer_fused(optimizer: Optimizer) -> None:
    """Take the fused form on a GPU, where the config says neither it nor ``foreach=True``.

    Only there: the order of its operations changes the last bits of a step, and the processor
    waits for nothing on a CPU. A state that was loaded from another form is moved along.
    """
    if type(optimizer) not in FUSED:
        return
    groups = optimizer.param_groups
    settled = any(g['fused'] is not None or g['foreach'] or g['differentiable'] for g in groups)
    parameters = [parameter for group in groups for parameter in group['params']]
    if settled or not all(p.device.type in WORTH_IT and p.is_floating_point() for p in parameters):
        return
    for group in groups:
        group['fused'] = True
    # As the constructor would: GradScaler then leaves the decision to the kernel too.
    optimizer._step_supports_amp_scaling = True
    for parameter, state in optimizer.state.items():
        if 'step' in state:
            state['step'] = torch.as_tensor(state['step']).to(parameter.device, torch.float32)


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether ``found_inf`` makes ``optimizer`` skip; SGD is prepared for a skipped first step.

    With dampening SGD's first momentum is no sum of its own, and such a run is told to the
    processor instead; so is one with sharded parameters, whose kernels take no plain tensor beside.
    """
    groups = optimizer.param_groups
    if type(optimizer) not in FUSED or not all(group['fused'] for group in groups):
        return False
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group['params']):
        return False
    if isinstance(optimizer, SGD):
        if any(group['dampening'] for group in groups):
            return False
        _start_momentum(optimizer)
    return True


def _start_momentum(optimizer: SGD) -> None:
    """Zeros where torch would allocate and fill in the first step: skipped, they stay unfilled."""
    for group in optimizer.param_groups:
        for parameter in group['params'] if group['momentum'] else ():
            state = optimizer.state[parameter]
            if state.get('momentum_buffer') is None and parameter.requires_grad:
                state['momentum_buffer'] = torch.zeros_like(parameter)
