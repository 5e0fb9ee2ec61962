"""A sample as the model sees it: its text by the chat template or a wrapper, and which characters are learnt."""
