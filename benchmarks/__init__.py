"""Speed, as a ratio of two sides that are measured in turn, in one command."""

import os

# Before torch is imported. Threads that spin while they wait fall over each other when another process takes a CPU:
# measured on two CPUs with one of them taken, a step of 20 s in place of 4 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
