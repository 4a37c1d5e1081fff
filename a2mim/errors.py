"""Errors whose cause is known to lie outside the program, and the exit codes of the tools.

docs/reliability.md has the codes as a table for scripts. An unhandled exception exits with 1, and
argparse with 2.
"""

USER_ERROR = 2  # a mistake in the input, reported in one line
NOT_FINITE = 3  # too many updates in a row were not finite
NOT_WRITTEN = 74  # a file could not be written; the previous one is intact (EX_IOERR)
INTERRUPTED = 130  # Ctrl-C where there is nothing to save: a tool, or before the first step
DIED_OF_SIGNAL = 128  # plus the number of the signal that ended a process
TRY_AGAIN = 75  # stopped, or a process is missing: resume with --resume auto (EX_TEMPFAIL)


class BadDataError(ValueError):
    """An image, or too many of them, cannot be used: the data are at fault, at any time of a run.

    Raised with one argument, the message, so that a data loader can raise it again in the main
    process.
    """


class StorageError(RuntimeError):
    """The storage of the images does not answer: no image is at fault, and the run may try again.

    Raised with one argument, as ``BadDataError``.
    """


class NotFiniteStateError(RuntimeError):
    """The state of a run holds NaN or Inf."""


class NotFiniteError(RuntimeError):
    """Too many updates in a row had a loss or a gradient that is not finite."""


class NotWrittenError(OSError):
    """A file could not be written; the previous file of that name is intact."""


class MissingError(RuntimeError):
    """A process of the run is missing, a data worker or another rank; nothing is wrong with it."""
