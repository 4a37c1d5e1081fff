"""One thread that writes while training goes on, one file at a time.

``torch.distributed.checkpoint.async_save`` does the same for a folder of shards in a format of its
own; a checkpoint here is one file that ``torch.load`` and every other tool reads.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """Run one job at a time in a thread; its error is raised where the trainer asks next.

    Python waits for the thread before it exits, so that a job which was begun is completed.
    """

    def __init__(self) -> None:
        # The thread itself is started by the first job.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix='checkpoint')
        self._job: Future[None] | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Begin ``job``, after the one before, whose error is raised here."""
        self.wait()
        self._job = self._executor.submit(job)

    def check(self) -> None:
        """Raise the error of a job that has failed; wait for none."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Return once nothing is being written; raise the error of the job, once."""
        job, self._job = self._job, None
        if job is not None:
            job.result()
