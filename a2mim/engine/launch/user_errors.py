"""A mistake in the input ends a tool with one clear line; a fault in the program keeps its trace.

Until the first training iteration is done no work can be lost, and an error is most likely in
what was asked for: it ends as one line on stderr with exit code 2. Set A2MIM_TRACEBACK=1 to see
where it came from. A training that is not finite and a checkpoint that cannot be written end as
one line, too, at any time and with codes of their own.
"""

import os
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.errors import (
    NOT_FINITE,
    NOT_WRITTEN,
    USER_ERROR,
    BadDataError,
    NotFiniteError,
    NotFiniteStateError,
    NotWrittenError,
)

# mmengine asserts what a config says, too; a checkpoint that it fetches itself may be refused.
USER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    ImportError,
    SyntaxError,
    AssertionError,
    pickle.UnpicklingError,
)
# What may come at any time, and is said in one line then too.
EXPECTED = {
    BadDataError: USER_ERROR,
    NotFiniteError: NOT_FINITE,
    NotFiniteStateError: NOT_FINITE,
    NotWrittenError: NOT_WRITTEN,
}
PATIENCE = 10  # seconds


class FirstIteration(Hook):
    """Remember whether an iteration of training has been completed."""

    done = False

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Training works; what fails from here on is not the input's fault."""
        self.done = True


@contextmanager
def one_line_errors(training: FirstIteration | None = None) -> Iterator[None]:
    """Turn a user error inside the block into one line on stderr and exit code 2.

    Args:
        training: Once its iteration is done, errors pass through, but for the ``EXPECTED`` ones.
    """
    try:
        yield
    except (*USER_ERRORS, *EXPECTED) as error:
        code = next((EXPECTED[kind] for kind in EXPECTED if isinstance(error, kind)), None)
        late = training is not None and training.done and code is None
        if late or os.environ.get('A2MIM_TRACEBACK'):
            raise
        report(sentence(error), process=int(os.environ.get('LOCAL_RANK', 0)))
        raise SystemExit(code or USER_ERROR) from error


def report(text: str, process: int) -> None:
    """Say on stderr what is wrong, once for all processes of this machine.

    Most errors are met by all of them. The first one speaks, and its exit ends the others; one
    that is still there a little later has met an error of its own.
    """
    if process:
        time.sleep(PATIENCE)
    sys.stderr.write(f'error{f" (process {process})" if process else ""}: {text}\n')


def sentence(error: BaseException) -> str:
    """What ``error`` has to say, on one line."""
    # str() of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if 'in DataLoader worker process' in lines[0]:
        # The worker's whole traceback is in the message; its last line is the error itself.
        return lines[-1]
    return ' '.join(lines)
