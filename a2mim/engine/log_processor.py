"""The progress line: how fast the run is, and whether it waits for its data."""

from mmengine.dist import get_world_size
from mmengine.runner import LogProcessor, Runner

from a2mim.registry import LOG_PROCESSORS


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
