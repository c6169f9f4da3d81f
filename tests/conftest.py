"""What every test process begins with."""

import os
import signal

# One thread a process: the networks here are so small that more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with SIGINT ignored, and so would be whatever a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
