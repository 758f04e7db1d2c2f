"""Restate Invocation Operator: durable invocations as GitOps resources."""

__version__ = "0.1.0"
