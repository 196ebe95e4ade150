"""Errors that a user can act on: what is wrong, where, and what to do.

This module imports nothing, so that the command line can report an error without loading torch.
"""


class AtconError(Exception):
    """Base of every error that `atcon` raises on purpose; the command line prints it and exits."""

    exit_code = 1


class InputError(AtconError):
    """The data, the weights, the configuration or an argument is wrong; exit code 2."""

    exit_code = 2


class BadImageError(InputError):
    """One image cannot be used; the stated policy decides whether it is skipped or ends the run."""
