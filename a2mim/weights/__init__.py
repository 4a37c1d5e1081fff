"""Weights: safe reading, atomic writing, names and fitting, released files, export, publishing.

Nothing is imported here, so that a look at the table of released files needs no torch.
"""
