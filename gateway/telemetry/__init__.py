"""Event sinks: metrics and logs. Only the composition root (`gateway/app.py`) imports them."""
