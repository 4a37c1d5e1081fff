"""a2mim: architecture-agnostic masked image modelling for any timm backbone."""

from a2mim.version import __version__

__all__ = ['__version__']
