"""Runs a plan: `docker` with Compose, `native` with processes. Both know the same verbs: up, down, status, logs."""
