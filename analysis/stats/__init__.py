"""Pure statistics: intervals, seed variance, comparisons, the choice of a winner."""
