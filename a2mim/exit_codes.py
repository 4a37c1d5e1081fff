"""What the exit code of a tool says; docs/reliability.md has the table for scripts.

Python itself ends with 1 after a fault in the program, and argparse with 2.
"""

USER_ERROR = 2  # a mistake in the input, said in one line
NOT_FINITE = 3  # too many updates in a row were not finite
NOT_WRITTEN = 74  # a checkpoint could not be, and the one before is whole (EX_IOERR)
TRY_AGAIN = 75  # stopped by a signal, saved: go on with --resume auto (EX_TEMPFAIL)
