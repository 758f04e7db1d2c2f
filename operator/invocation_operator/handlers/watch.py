"""How kopf watches, for the composition root."""

import kopf


def settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    """Return how kopf watches: nothing but that, and in pieces that are bounded."""
    chosen = kopf.OperatorSettings()
    # Looking for new namespaces and kinds needs rights that an operator of single namespaces does not have.
    chosen.scanning.disabled = not clusterwide
    chosen.posting.enabled = False
    chosen.watching.client_timeout = 600
    chosen.watching.connect_timeout = 10
    # Ten thousand finished objects in one answer are a spike of memory here and in the API server.
    chosen.watching.chunk_size = 500
    chosen.networking.request_timeout = 30
    chosen.process.ultimate_exiting_timeout = None
    chosen.queueing.exit_timeout = 1.0
    return chosen
