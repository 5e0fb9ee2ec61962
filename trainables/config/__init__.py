"""The typed configuration of one trial, its hyper-parameters and the table of data rules."""
