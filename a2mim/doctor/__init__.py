"""Checks of the installation and the machine: ``python -m a2mim.doctor``."""
