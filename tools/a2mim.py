"""Where the programs of this folder find the package: in the checkout that they are part of.

Python looks for a module in the folder of the program first, and finds this file, which is linked
into every folder with programs. It removes itself and imports the package from the root of the
checkout. No a2mim has to be installed; one that is installed is not used.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
del sys.modules[__name__]
importlib.import_module(__name__)
