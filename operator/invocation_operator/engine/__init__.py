"""The admin API of one Restate engine: what can be asked of it, what it answers, how it fails.

Called by the reconcilers and by whoever reads an engine; knows nothing of Kubernetes. ``client`` is the surface,
``errors`` what it raises, ``models`` what it returns; ``transport``, ``tls`` and ``rows`` are its parts.
"""
