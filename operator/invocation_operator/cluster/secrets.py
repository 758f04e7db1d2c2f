"""Engine credentials from Secrets. Only Secrets that carry the label are read into anything: without it, whoever may
create a RestateEngine could have any Secret of the namespace sent to a URL of their own.
"""

import base64
import binascii

from invocation_operator.api.v1alpha1.engine import CREDENTIAL_LABEL
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ObjectNotFound
from invocation_operator.cluster.resources import SECRETS


class SecretProblem(Exception):
    """A Secret cannot be used. ``reason`` is ``SecretNotFound``, ``SecretNotLabelled`` or ``SecretInvalid``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


async def read_credential(client: KubeClient, namespace: str, name: str) -> dict[str, bytes]:
    """Return the data of a labelled Secret. Raises ``SecretProblem`` and the errors of ``cluster.errors``."""
    try:
        secret = await client.get(SECRETS, namespace, name)
    except ObjectNotFound:
        raise SecretProblem("SecretNotFound", f"there is no Secret {namespace}/{name}; create it.") from None
    labels = secret.get("metadata", {}).get("labels") or {}
    if labels.get(CREDENTIAL_LABEL) != "true":
        raise SecretProblem(
            "SecretNotLabelled",
            f'the Secret {namespace}/{name} does not carry the label {CREDENTIAL_LABEL}: "true", and is not read.',
        )
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (secret.get("data") or {}).items()}
    except (binascii.Error, ValueError):
        raise SecretProblem("SecretInvalid", f"the Secret {namespace}/{name} cannot be decoded.") from None


def key_of(data: dict[str, bytes], namespace: str, name: str, key: str) -> bytes:
    """Return one key of a Secret's data. Raises ``SecretProblem``."""
    value = data.get(key)
    if not value:
        raise SecretProblem("SecretNotFound", f"the Secret {namespace}/{name} has no key {key!r}; add it.")
    return value
