"""The sweep: plan, search, lanes, ledger."""
