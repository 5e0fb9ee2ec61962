"""Files of a sweep made anew from its ledger."""
