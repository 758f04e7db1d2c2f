"""`leash.py <parent's pid> <command…>` becomes the command, after asking the kernel to kill it with its parent.

A program of its own and not Popen's `preexec_fn`, which is unsafe (and warned about) in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone already")
    os.execvp(sys.argv[2], sys.argv[2:])
