"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.dist import get_world_size
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, LogProcessor, Runner
from torch import nn

from a2mim.engine.averaging import RankBuffersHook
from a2mim.engine.bad_images import BadImagesHook
from a2mim.engine.checkpointing import CheckpointHook
from a2mim.engine.guard import FiniteGuardHook
from a2mim.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from a2mim.engine.mmengine_fixes import compile_forward, filter_log
from a2mim.engine.resume import FitWeightsHook, RunRecordHook
from a2mim.engine.sharding import FullyShard
from a2mim.engine.signals import StopSignalHook
from a2mim.engine.step_seed import StepSeedHook
from a2mim.registry import LOG_PROCESSORS, MODEL_WRAPPERS

# What every run has: steps that can be repeated, checkpoints of any system read, updates that are
# not finite and images that cannot be read survived, and a stop in time when it is told to.
ALWAYS = (
    StepSeedHook,
    FitWeightsHook,
    RunRecordHook,
    RankBuffersHook,
    FiniteGuardHook,
    BadImagesHook,
    StopSignalHook,
)


class ToolRunner(Runner):
    """mmengine's Runner, except where ``a2mim.engine`` says why."""

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(*args, **kwargs)
        filter_log(logger)
        return logger

    def register_hooks(self, *args: object, **kwargs: object) -> None:
        """Register the hooks of the config, and those of ``ALWAYS`` that it does not configure."""
        super().register_hooks(*args, **kwargs)
        for always in ALWAYS:
            if not any(isinstance(hook, always) for hook in self.hooks):
                self.register_hook(always())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of the config, or the one of this package that ``by_epoch`` stands for."""
        if isinstance(loop, dict) and 'type' not in loop:
            options = dict(loop)
            by_epoch = options.pop('by_epoch')
            loop = dict(type=EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop, **options)
        return super().build_train_loop(loop)

    def train(self) -> nn.Module:
        """Train as mmengine does; whatever ends it, checkpoints and signals are seen to."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, StopSignalHook):
                    hook.stop_listening()
                if isinstance(hook, CheckpointHook):
                    hook.finish(self)

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap it as mmengine does, which does not look for wrappers in the scope of the run."""
        if model_wrapper_cfg and 'type' in model_wrapper_cfg:
            kind = MODEL_WRAPPERS.get(model_wrapper_cfg['type'])
            model_wrapper_cfg = {**model_wrapper_cfg, 'type': kind}
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        """Build it as mmengine does, and tell it if the model is sharded."""
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(self.model, FullyShard):
            self.model.adopt(wrapper)
        return wrapper

    def _init_model_weights(self) -> None:
        # A sharded model was initialised while it was whole.
        if not isinstance(self.model, FullyShard):
            super()._init_model_weights()


# [log_processor]
# The progress line: how fast the run is, and whether it waits for its data.


@LOG_PROCESSORS.register_module()
class SpeedLogProcessor(LogProcessor):
    """mmengine's progress line plus images per second and the share of time spent on waiting.

    Both are means over the window of ``time`` and ``data_time``. The rate counts the images of all
    processes. The share is 0 where the next batch is always ready, and near 1 where the loader is
    the bottleneck and more workers would help. The numbers of updates that the finite guard skipped
    and of images that cannot be read follow once there are any.
    """

    def _collect_scalars(self, *args: object, **kwargs: object) -> dict:
        """Leave out mmengine's ``base_lr``, which is the rate of the first group once more."""
        scalars = super()._collect_scalars(*args, **kwargs)
        return {name: value for name, value in scalars.items() if not name.endswith('base_lr')}

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Values for the back ends, and the line for a person."""
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        prefix = f'{mode}/' if self.log_with_hierarchy else ''
        seconds = values.get(f'{prefix}time', 0)
        if mode == 'train' and seconds > 0:
            rate = runner.train_dataloader.batch_sampler.batch_size * get_world_size() / seconds
            share = values[f'{prefix}data_time'] / seconds
            values.update({f'{prefix}images_per_s': rate, f'{prefix}data_wait': share})
            line += f'  images/s: {rate:.4g}  data wait: {share:.0%}'
        skipped = runner.message_hub.get_info('skipped_updates', 0)
        if mode == 'train' and skipped:
            values[f'{prefix}skipped'] = skipped
            line += f'  skipped: {skipped}'
        bad_images = runner.message_hub.get_info('bad_images')
        if mode == 'train' and bad_images and bad_images['found']:
            values[f'{prefix}bad_images'] = len(bad_images['found'])
            line += f'  bad images: {len(bad_images["found"])}'
        return values, line
