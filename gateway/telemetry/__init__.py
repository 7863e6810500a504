"""Event sinks: metrics and logs. Only the composition root (`gateway/gateway_lifecycle.py`) imports them."""
