"""The TLS side of a connection: an ``ssl.SSLContext`` from PEM texts that are only held in memory.

Called by ``engine.transport`` once per client; a rotated Secret makes a new client. Invariants: the engine's
certificate and name are always verified, TLS is 1.2 or newer, a private CA replaces the system's, and a private key is
on no disk: Python's ``ssl`` reads it from a file only, so it gets one that lives in memory and is gone at once.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from invocation_operator.engine.errors import CertificateInvalid


def tls_context(ca_pem: str | None, client_cert_pem: bytes | None, client_key_pem: bytes | None) -> ssl.SSLContext:
    """A verifying client context.

    Raises:
        CertificateInvalid: a PEM cannot be used; the message names the part and holds nothing of it.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname come with it
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError, TypeError):  # TypeError: not ASCII
            raise CertificateInvalid("the CA bundle is not PEM with certificates: look at the caSecret") from None
        if not context.get_ca_certs():
            raise CertificateInvalid("the CA bundle holds no certificate authority: look at the caSecret")
    if client_cert_pem is None and client_key_pem is None:
        return context
    if client_cert_pem is None or client_key_pem is None:
        missing = "certificate" if client_cert_pem is None else "private key"
        raise CertificateInvalid(f"the client {missing} is missing: look at the clientCertSecret")
    _load_client(context, client_cert_pem, client_key_pem)
    return context


def _load_client(context: ssl.SSLContext, cert_pem: bytes, key_pem: bytes) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in cert_pem:
        raise CertificateInvalid("the client certificate is not PEM: look at the clientCertSecret")
    if b"PRIVATE KEY-----" not in key_pem:
        raise CertificateInvalid("the client's private key is not PEM: look at the clientCertSecret")
    encrypted = False

    def no_password() -> bytes:
        nonlocal encrypted
        encrypted = True
        return b""

    with _readable(cert_pem) as cert, _readable(key_pem) as key:
        try:
            context.load_cert_chain(cert, key, password=no_password)
        except (ssl.SSLError, ValueError) as error:
            if encrypted:
                what = "the client's private key is encrypted, which is not supported"
            elif getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                what = "the client's private key does not belong to the client certificate"
            else:
                what = "the client certificate or its private key cannot be read"
            raise CertificateInvalid(f"{what}: look at the clientCertSecret") from None


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path to ``content`` that only this process can read, for as long as the block lasts."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="pem-")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        Path(path).unlink()
