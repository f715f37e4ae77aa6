"""Metrics: what a Prometheus asks the stack, and the dashboards that show it."""
