"""Health of sellers: circuit breakers, limiters, statistics, and what replicas share about them."""
