"""Where the programs of this folder find the package: in the checkout that they are part of.

Python looks for a module in the folder of the program first, and finds this file, which is linked
into every folder with programs. It removes itself and imports the package from the root of the
checkout. No a2mim has to be installed; one that is installed is not used. From here on Ctrl-C shows
no traceback, while torch is imported either.
"""

import importlib
import os
import sys
from pathlib import Path
from types import TracebackType


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nobody has caught, and Ctrl-C in one word."""
    if kind is KeyboardInterrupt and os.environ.get('A2MIM_TRACEBACK', '0') in ('', '0'):
        sys.stderr.write('stopped by Ctrl-C\n')
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
del sys.modules[__name__]
importlib.import_module(__name__)
