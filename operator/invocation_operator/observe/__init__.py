"""Logs, metrics and health: what the operator tells of itself."""
