"""Each vendor's circuit breaker, hold, rate limit and statistics, shared by all processes through PostgreSQL."""
