"""Results of all processes, brought together without a file."""

from mmengine.evaluator import BaseMetric


class GatheredMetric(BaseMetric):
    """mmengine's ``BaseMetric``, whose parts travel through the process group.

    mmengine's default is a folder below the working directory, which two machines need not share:
    their first validation would end with a missing file. The other way is called ``'gpu'`` and
    works on the CPU as well.

    Args:
        kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{'collect_device': 'gpu', **kwargs})
