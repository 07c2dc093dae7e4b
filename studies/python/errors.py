"""The errors of sweeps. Each message is one sentence: the value, the limit, the remedy."""


class SweepError(ValueError):
    """The specification of a sweep, or what was asked of it, makes no sense."""


class SweepTerminated(KeyboardInterrupt):
    """SIGTERM ended a sweep in order, as Ctrl-C does."""

    exit_code = 143  # as shells say 128 + SIGTERM


class CorruptCellError(OSError):
    """A file that is named like a finished cell is not one."""
