"""Version ``v1alpha1`` of the kinds.

The models are the single source: ``crdgen`` turns them into CRDs and the API reference (a field's docstring is
its description), the operator parses objects with them, and tests build manifests from them.
"""
