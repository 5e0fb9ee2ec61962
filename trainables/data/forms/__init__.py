"""The forms in which people keep samples, each turned into messages, tools or plain text."""
