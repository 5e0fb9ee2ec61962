"""The leaderboard."""

from analysis.rank.leaderboard import leaderboard

__all__ = ["leaderboard"]
