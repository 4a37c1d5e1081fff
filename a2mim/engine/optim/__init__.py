"""Optimisers: parameter groups by rule and by depth, LAMB, weight averaging."""

from a2mim.engine.optim.layer_decay import layer_lr_factors
from a2mim.engine.optim.optimizers import Lamb
from a2mim.engine.optim.param_rules import ParamRuleConstructor
from a2mim.engine.optim.warmup_ema import WarmupEMA

__all__ = ['Lamb', 'ParamRuleConstructor', 'WarmupEMA', 'layer_lr_factors']
