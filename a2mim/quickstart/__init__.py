"""The quick start: pictures of what a network reconstructs, and what its pre-training is worth."""

from a2mim.quickstart.command import main

__all__ = ['main']
