"""Optuna under Ray Tune: space, samplers, study, what each trial reports."""
