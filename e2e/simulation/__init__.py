"""Models of the engine and of the Kubernetes API in memory, and an event loop in virtual time.

The operator runs on them with its own clients, down to the one call that would send bytes. What stands in for the
servers (`engine`, `apiserver`) is held to the real ones by `tests/conformance`.
"""
