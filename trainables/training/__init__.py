"""One epoch: the loop, a trial's run through it, the engines that compute its steps."""
