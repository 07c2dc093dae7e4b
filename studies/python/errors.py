"""The errors of sweeps. Each message is one sentence: the value, the limit, the remedy."""


class SweepError(ValueError):
    """The specification of a sweep, or what was asked of it, makes no sense."""


class SweepBusyError(OSError):
    """Another sweep is at work in the folder."""


class CorruptCellError(OSError):
    """A file that is named like a finished cell is not one."""
