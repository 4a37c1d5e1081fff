"""Heads: how a reconstruction and its target become losses."""

from a2mim.models.heads.mim_head import MIMHead

__all__ = ['MIMHead']
