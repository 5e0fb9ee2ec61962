"""The pre-flight: data sets, LR bounds, cost forecast, findings; no GPU."""
