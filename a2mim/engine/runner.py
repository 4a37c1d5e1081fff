"""The runner of every training and test, and its progress line."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mmengine import Config
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, LogProcessor, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from a2mim.engine.guard import check_clipping
from a2mim.engine.log_lines import set_line_format
from a2mim.engine.loops import batch_size
from a2mim.engine.mmengine_fixes import compile_forward, filter_log
from a2mim.engine.precision import MATMUL, set_matmul
from a2mim.engine.processes import DDP, NATIVE_SYNC_BN
from a2mim.engine.records import guard_handlers, guard_visualizer
from a2mim.engine.sharding import FullyShard
from a2mim.engine.sync_batch_norm import join_batch_norm
from a2mim.length import AUTO
from a2mim.registry import HOOKS, LOG_PROCESSORS, MODEL_WRAPPERS, TOGETHER
from a2mim.weights.config_files import read_config
from a2mim.weights.released import config_path

# The hooks that mmengine adds to every run.
PRESET = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def config_copy(cfg: Config) -> Path:
    """Where a run writes its config with all that it inherits: in its work dir, under its name.

    A file that lies there already, with comments of its own at the top, keeps its name.
    """
    source = Path(cfg.filename or 'config.py')
    path = Path(cfg.work_dir, source.name)
    if path.is_file() and source.is_file() and path.samefile(source):
        written = path.suffix == '.py' and path.read_text(encoding='utf-8').startswith(('"', '#'))
        path = path.with_name(f'{path.stem}_as_run.py') if written else path
    return path


@cache
def hooks_of_every_run() -> dict[str, dict]:
    """The ``default_hooks`` of ``configs/_base_/every_run.py``."""
    return read_config(config_path('_base_/every_run')).default_hooks.to_dict()


def complete_hooks(default: Mapping, custom: Sequence[dict | Hook] = ()) -> dict:
    """``default`` with the hooks of every run that neither it nor ``custom`` has.

    One of these that a config has under another key or in ``custom_hooks`` takes the place of the
    one that belongs to its key. Options without a type, as ``--cfg-options
    default_hooks.bad_images.patience=600`` gives them, are added to it.

    Args:
        default: ``default_hooks`` of a config; None as a value switches a hook off.
        custom: ``custom_hooks`` of a config.
    """
    every = hooks_of_every_run()
    partial = {k for k in every if isinstance(default.get(k), dict) and 'type' not in default[k]}
    others = [hook for key, hook in default.items() if key not in every] + [*custom]
    classes = [hook_class(hook) for hook in others if hook is not None]
    replaced = {
        key for key, hook in every.items() if any(issubclass(c, hook_class(hook)) for c in classes)
    }
    added = {key: dict(hook) for key, hook in every.items()}
    whole = {k: {**added[k], **h} if k in partial else h for k, h in default.items()}
    return {k: hook for k, hook in {**added, **whole}.items() if k not in replaced}


def hook_class(hook: dict | Hook) -> type:
    """The class of a hook, or of the one that its config names."""
    if isinstance(hook, Hook):
        return type(hook)
    kind = hook['type']
    found = HOOKS.get(kind) if isinstance(kind, str) else kind
    # A name that is unknown is refused where the hook is built.
    return found or object


class ToolRunner(Runner):
    """mmengine's Runner with the hooks of every run, a readable log, and what a hook cannot do.

    These are ``torch.compile`` of the forward pass, sharding, which takes part in building model,
    weights and optimiser, and batch norm on a CPU. mmengine's own Runner trains a config of this
    package to the same weights: its hooks stand in the config.
    """

    def build_logger(
        self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: object
    ) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        filter_log(logger)
        set_line_format(logger)
        guard_handlers(logger)
        return logger

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build it as mmengine does; a folder of images is walked by the first process."""
        with TOGETHER:
            return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build it as mmengine does; what its back ends cannot write ends no run."""
        if visualizer is None:
            visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        built = super().build_visualizer(visualizer)
        guard_visualizer(built)
        return built

    @master_only
    def dump_config(self) -> None:
        """Write the config to the work dir as mmengine does, but not over what a person wrote."""
        if self.cfg.filename is None:
            super().dump_config()
        else:
            self.cfg.dump(str(config_copy(self.cfg)))

    def setup_env(self, env_cfg: dict) -> None:
        """Set it up as mmengine does, and choose how float32 matrices are multiplied."""
        super().setup_env(env_cfg)
        set_matmul(env_cfg.get(MATMUL, 'high'))

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build it as mmengine does, whose own loop takes numbers of epochs alone."""
        if isinstance(loop, dict) and loop.get('max_epochs') == AUTO and 'type' not in loop:
            options = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop = {'type': 'EpochBasedTrainLoop', **options}
        return super().build_train_loop(loop)

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: list[Hook | dict] | None = None,
    ) -> None:
        """Register the hooks of the config and of every run; the dumped config shows them all."""
        hooks = complete_hooks(default_hooks or {}, custom_hooks or ())
        self.cfg.default_hooks = {k: h for k, h in hooks.items() if not isinstance(h, Hook)}
        # mmengine knows None for its own hooks only.
        off = {key for key, hook in hooks.items() if hook is None and key not in PRESET}
        super().register_hooks({k: h for k, h in hooks.items() if k not in off}, custom_hooks)

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap it as mmengine does, which does not look for wrappers in the scope of the run.

        Batch norm over all processes is that of this package, unless ``sync_bn`` asks for another.
        """
        sync_bn = self.cfg.get('sync_bn')
        if self.distributed and sync_bn in (None, 'torch'):
            model, self.cfg.sync_bn = join_batch_norm(model, every=sync_bn == 'torch'), None
        elif sync_bn == NATIVE_SYNC_BN:
            self.cfg.sync_bn = 'torch'
        if self.distributed:
            model_wrapper_cfg = self._ddp_options(model_wrapper_cfg)
        if model_wrapper_cfg and 'type' in model_wrapper_cfg:
            kind = MODEL_WRAPPERS.get(model_wrapper_cfg['type'])
            model_wrapper_cfg = {**model_wrapper_cfg, 'type': kind}
        wrapped = super().wrap_model(model_wrapper_cfg, model)
        self.cfg.sync_bn = sync_bn
        return wrapped

    def _ddp_options(self, given: dict | None) -> dict:
        """``given``; for DDP, with gradients that lie in the buffers of the all-reduce.

        Without, each gradient is copied into its buffer and back, and is there twice.
        """
        unused = self.cfg.get('find_unused_parameters', False)
        options = given or dict(broadcast_buffers=False, find_unused_parameters=unused)
        if options.get('type', DDP) != DDP:
            return options
        return {'type': DDP, 'gradient_as_bucket_view': True, **options}

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        """Build it as mmengine does, and tell it if the model is sharded.

        Raises:
            ValueError: If it clips gradients to a bound that is NaN, infinite or negative.
        """
        wrapper = super().build_optim_wrapper(optim_wrapper)
        check_clipping(getattr(wrapper, 'clip_grad_kwargs', None))
        if isinstance(self.model, FullyShard):
            self.model.adopt(wrapper)
        return wrapper

    def init_weights(self) -> None:
        """Initialise the weights now, before the data is read, and not once more in ``train``."""
        self._init_model_weights()
        self._initialised = True

    _initialised = False

    def _init_model_weights(self) -> None:
        # A sharded model was initialised while it was whole.
        if not self._initialised and not isinstance(self.model, FullyShard):
            super()._init_model_weights()


@LOG_PROCESSORS.register_module()
class SpeedLogProcessor(LogProcessor):
    """mmengine's progress line plus images per second and the share of time spent on waiting.

    Both are means over the window of ``time`` and ``data_time``. The rate counts the images of all
    processes. The share is 0 where the next batch is always ready, and near 1 where the loader is
    the bottleneck and more workers would help. The numbers of updates that the finite guard skipped
    and of images that cannot be read follow once there are any.
    """

    def _collect_scalars(
        self, custom_cfg: list[dict], runner: Runner, mode: str, reserve_prefix: bool = False
    ) -> dict:
        """Leave out mmengine's ``base_lr``, which is the rate of the first group once more."""
        scalars = super()._collect_scalars(custom_cfg, runner, mode, reserve_prefix)
        return {name: value for name, value in scalars.items() if not name.endswith('base_lr')}

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Values for the back ends, and the line for a person."""
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        prefix = f'{mode}/' if self.log_with_hierarchy else ''
        seconds = values.get(f'{prefix}time', 0)
        if mode == 'train' and seconds > 0:
            rate = batch_size(runner.train_dataloader) * get_world_size() / seconds
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
