"""Who listens to the core's events: metrics and logs. Nothing imports these but the composition root."""
