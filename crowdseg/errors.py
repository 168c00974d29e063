"""Errors that say what was wrong, where, and what to do. Libraries raise them; only the command line exits."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CrowdsegError(Exception):
    """Something failed. The message is one sentence for the user, naming the file and what to do."""

    exit_code = 1


class UsageError(CrowdsegError):
    """The request itself is wrong: an unknown option value, a path that is not there."""

    exit_code = 2


class PartialFailure(CrowdsegError):
    """Some inputs failed; everything else was done and kept."""

    exit_code = 3


class SetupError(CrowdsegError):
    """The environment lacks something: weights that cannot be downloaded, a device that is not there."""

    exit_code = 4


class DataError(CrowdsegError):
    """A file that cannot be read or does not hold what it should."""


class WriteError(DataError):
    """A file that cannot be written, for lack of space or permission: what comes after it would be done in vain."""


class Interrupted(CrowdsegError):
    """The user stopped the command."""

    exit_code = 130
