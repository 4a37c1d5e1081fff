"""``_base_ = ['mmseg::...']`` finds the installed MMSegmentation.

mmengine looks for a distribution called ``mmsegmentation``; the maintained line of it is called
``onedl-mmsegmentation`` and provides the module ``mmseg``, which importlib finds under its own
name. This file can go once mmengine's table names the module.
"""

from mmengine.config.utils import MODULE2PACKAGE

MODULE2PACKAGE['mmseg'] = 'mmseg'
