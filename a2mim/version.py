"""The version of the package, read by pyproject.toml without importing anything."""

__version__ = '0.1.0'
