"""The typed configuration of a trial, its hyper-parameters, and the table of data rules."""
