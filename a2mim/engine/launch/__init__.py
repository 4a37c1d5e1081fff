"""From a command line to a runner: options, checks and guards, before anything is trained.

A tool calls a function of ``build`` within ``one_line_errors``; the other modules are its steps.
"""
