"""One epoch: the loop, a trial's run through it, and the engines that compute its steps."""
