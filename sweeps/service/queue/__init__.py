"""The sweeps that were sent: the log, what its events mean, and which runs next."""
