"""The best checkpoint as a verified Hugging Face folder."""
