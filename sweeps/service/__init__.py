"""The experiment service: users, queue, runner, API and page; `sweeps.serve` starts it."""
