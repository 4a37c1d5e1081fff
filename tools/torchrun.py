"""torchrun, which ends quietly where the program has already said in one line what is wrong.

A tool of this repository ends with exit code 2 on a mistake in its input. torchrun would follow
up with a page of its own traceback and exit code 1.
"""

import logging

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

USER_ERROR = 2

if __name__ == '__main__':
    # It reports which process was stopped or failed first; the error below says it again.
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        if any(failure.exitcode == USER_ERROR for failure in error.failures.values()):
            raise SystemExit(USER_ERROR) from None
        raise
