"""The version of the package, read by pyproject.toml without importing anything."""

__version__ = '0.2.0'
