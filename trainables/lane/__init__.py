"""A lane's worker process: it takes jobs from the dispatcher and trains trials side by side."""
