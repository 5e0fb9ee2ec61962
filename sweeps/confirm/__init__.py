"""Pure: which replicates run next, and when settings count as different."""
