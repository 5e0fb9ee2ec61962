"""What is wrong with a sweep's data, line by line, before anything is trained on it.

`trainables.config.defect_rules` holds the table of rules, `trainables.data.audit.audit` the story: read it first.
"""
