"""Errors whose cause is known to lie outside the program."""


class BadDataError(ValueError):
    """An image, or too many of them, cannot be used: the data are at fault, at any time of a run.

    Raised with one argument, the message, so that a data loader can raise it again in the main
    process.
    """


# [exit_codes]
# What the exit code of a tool says; docs/reliability.md has the table for scripts.
#
# Python itself ends with 1 after a fault in the program, and argparse with 2.


USER_ERROR = 2  # a mistake in the input, said in one line
NOT_FINITE = 3  # too many updates in a row were not finite
NOT_WRITTEN = 74  # a checkpoint could not be, and the one before is whole (EX_IOERR)
TRY_AGAIN = 75  # stopped by a signal, saved: go on with --resume auto (EX_TEMPFAIL)


class NotFiniteStateError(RuntimeError):
    """The state of a run holds NaN or infinity."""


class NotFiniteError(RuntimeError):
    """Too many updates in a row had a loss or a gradient that is not finite."""


class NotWrittenError(OSError):
    """A file could not be written; the one that had its name before is whole."""
