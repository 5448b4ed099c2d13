"""PostgreSQL: the only place that speaks to it. It guards (fences, locks, compare-and-set) and decides nothing."""
