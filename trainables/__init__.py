"""One trial: data, model, loop, held-out scores, checkpoints."""

import logging

# PEFT imports bitsandbytes where it is installed, which then tells every process on some CPUs that it lacks a kernel
# for inference in 4 bits; none is used here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
