"""Ray Train runs that stay warm, and the dispatcher that feeds them."""
