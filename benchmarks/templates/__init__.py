"""Real chat templates against plain `apply_chat_template` and TRL's training templates."""
