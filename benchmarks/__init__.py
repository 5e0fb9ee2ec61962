"""Benchmarks, each one command: speed as a ratio of sides in turn, and decisions replayed against known truths."""

import os

# Before torch is imported. Threads of GNU OpenMP that spin while they wait fall over each other when another process
# takes a CPU. Seconds a LoRA step of the demo model, on two CPUs and on two with one of them taken: by default 1.8 and
# 20, with this number 1.9 and 4.7, with no spinning 2.4 and 3.8.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
