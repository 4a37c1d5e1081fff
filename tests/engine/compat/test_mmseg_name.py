"""The name under which MMSegmentation is looked for."""

from mmengine.config.utils import MODULE2PACKAGE

import a2mim.engine.mmengine_fixes  # noqa: F401


def test_configs_of_mmseg_are_looked_for_in_the_module_of_that_name():
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'
