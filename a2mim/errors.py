"""Errors whose cause is known to lie outside the program."""


class BadDataError(ValueError):
    """An image, or too many of them, cannot be used: the data are at fault, at any time of a run.

    Raised with one argument, the message, so that a data loader can raise it again in the main
    process.
    """
