"""Starts a program that must not outlive the process that asked for it (Linux).

    python -I -S guard.py PARENT_PID PROGRAM ARGUMENT...

The kernel is told to kill this process when its parent thread ends (prctl(2), PR_SET_PDEATHSIG),
and then it becomes PROGRAM; the setting survives execve(2). A process of its own does this because
Python code between fork and exec (`preexec_fn`) can deadlock in a program with threads. The signal
is tied to the parent *thread*: so the thread that starts a guard has to wait for it, as
`process.run_cell` does.
Elsewhere than on Linux the program is started without this guard.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program; exits with 1 if the parent is gone, 127 if it cannot be started."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel knew
            sys.exit(1)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
