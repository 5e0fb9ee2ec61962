"""What is wrong with a sweep's data, line by line, before anything is trained on it.

`trainables.audit.rules` holds the table of rules, `trainables.audit.audit` the story: read it first.
"""
