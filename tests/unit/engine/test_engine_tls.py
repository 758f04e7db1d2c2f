"""Who is believed to be the engine, and how the operator shows who it is."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from e2e.rig.certs import Authority, KeyPair
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient, Op
from tests.unit.engine.fake_admin import Asked, Wire, fake_admin

GOOD = Authority("good")
CLIENTS = Authority("clients")
ID = "inv_1b90ZiUqt0Gh1dqvmTTS5MC8kRzJVgEQr2"


async def _fine(asked: Asked, wire: Wire) -> None:
    await wire.json(200, {"cluster_name": "c"})


def serving(pair: KeyPair, tmp_path: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(tmp_path, "server"))
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=CLIENTS.pem)
    return context


def client_pair(days: int = 365) -> tuple[bytes, bytes]:
    pair = CLIENTS.client("operator", days=days)
    return pair.cert.encode(), pair.key.encode()


async def test_tls_private_ca_and_right_host_connects(tmp_path: Path) -> None:
    async with fake_admin(_fine, context=serving(GOOD.server(), tmp_path)) as admin, admin.client(ca_pem=GOOD.pem) as c:
        assert await c.cluster_name() == "c"
    assert admin.asked[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("ca", "hosts", "days", "said"),
    [
        (None, ("127.0.0.1",), 365, "self-signed|issuer"),
        (Authority("other").pem, ("127.0.0.1",), 365, "issuer|self-signed|unable"),
        (GOOD.pem, ("elsewhere.example",), 365, "IP address mismatch"),
        (GOOD.pem, ("127.0.0.1",), -1, "expired"),
    ],
)
async def test_tls_certificate_that_does_not_fit_is_refused_before_anything_is_sent(
    ca: str | None, hosts: tuple[str, ...], days: int, said: str, tmp_path: Path
) -> None:
    context = serving(GOOD.server(hosts, days=days), tmp_path)
    async with fake_admin(_fine, context=context) as admin, admin.client(ca_pem=ca, token="s3cret") as client:
        with pytest.raises(errors.CertificateInvalid, match=said) as caught:
            await client.operate(Op.CANCEL, ID)
    assert not caught.value.may_have_acted
    assert admin.asked == []


async def test_tls_private_ca_replaces_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "system.pem"
    bundle.write_text(GOOD.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    async with fake_admin(_fine, context=serving(GOOD.server(), tmp_path)) as admin:
        async with admin.client() as trusting:
            assert await trusting.cluster_name() == "c"
        async with admin.client(ca_pem=Authority("other").pem) as private:
            with pytest.raises(errors.CertificateInvalid):
                await private.cluster_name()


async def test_tls_server_name_is_what_the_certificate_must_hold(tmp_path: Path) -> None:
    context = serving(GOOD.server(["engine.example"]), tmp_path)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    async with fake_admin(_fine, context=context) as admin:
        async with admin.client(ca_pem=GOOD.pem, server_name="engine.example") as right:
            assert await right.cluster_name() == "c"
        async with admin.client(ca_pem=GOOD.pem, server_name="other.example") as wrong:
            with pytest.raises(errors.CertificateInvalid, match=r"other\.example"):
                await wrong.cluster_name()
    assert names == ["engine.example", "other.example"]


async def test_tls_client_certificate_is_shown(tmp_path: Path) -> None:
    cert, key = client_pair()
    context = serving(GOOD.server(), tmp_path, mutual=True)
    async with (
        fake_admin(_fine, context=context) as admin,
        admin.client(ca_pem=GOOD.pem, client_cert_pem=cert, client_key_pem=key) as client,
    ):
        assert await client.cluster_name() == "c"


@contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[str]:
    """A server that tells why it ends a handshake, as proxies do; asyncio's just closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as connection:
                with suppress(ssl.SSLError):
                    connection.do_handshake()
                with suppress(OSError):  # below TLS; closing with unread bytes would reset, and the alert be lost
                    socket.socket.shutdown(connection, socket.SHUT_WR)
                    while socket.socket.recv(connection, 65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    ("version", "days"),
    [(ssl.TLSVersion.TLSv1_2, -1), (ssl.TLSVersion.TLSv1_3, -1), (ssl.TLSVersion.TLSv1_3, None)],
)
async def test_tls_client_certificate_that_is_missing_or_expired_is_named(
    version: ssl.TLSVersion, days: int | None, tmp_path: Path
) -> None:
    context = serving(GOOD.server(), tmp_path, mutual=True)
    context.maximum_version = version
    cert, key = client_pair(days) if days is not None else (None, None)
    with alerting(context) as url:
        client = EngineClient(Connection(url, ca_pem=GOOD.pem, client_cert_pem=cert, client_key_pem=key))
        with pytest.raises(errors.CertificateInvalid, match="client certificate") as caught:
            await client.operate(Op.CANCEL, ID)
        await client.close()
    assert not caught.value.may_have_acted


async def test_tls_client_certificate_that_is_missing_is_guessed_where_tls_1_2_does_not_tell(tmp_path: Path) -> None:
    context = serving(GOOD.server(), tmp_path, mutual=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with alerting(context) as url:
        client = EngineClient(Connection(url, ca_pem=GOOD.pem))
        with pytest.raises(errors.Unreachable, match="may want a client certificate") as caught:
            await client.operate(Op.CANCEL, ID)
        await client.close()
    assert not caught.value.sent


async def test_tls_handshake_ended_without_a_word_is_unreachable(tmp_path: Path) -> None:
    context = serving(GOOD.server(), tmp_path, mutual=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with fake_admin(_fine, context=context) as admin, admin.client(ca_pem=GOOD.pem) as client:
        with pytest.raises(errors.Unreachable, match="handshake") as caught:
            await client.operate(Op.CANCEL, ID)
    assert not caught.value.sent


async def test_tls_older_than_1_2_is_refused(tmp_path: Path) -> None:
    context = serving(GOOD.server(), tmp_path)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with fake_admin(_fine, context=context) as admin, admin.client(ca_pem=GOOD.pem) as client:
        with pytest.raises(errors.Unreachable) as caught:
            await client.cluster_name()
    assert not caught.value.sent


async def test_tls_to_a_port_that_speaks_plain_http_is_unreachable() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        client = EngineClient(Connection(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        with pytest.raises(errors.Unreachable, match="TLS") as caught:
            await client.operate(Op.CANCEL, ID)
        await client.close()
    assert not caught.value.sent


def encrypted_key() -> bytes:
    key = serialization.load_pem_private_key(client_pair()[1], None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"s3cret")
    )


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"ca_pem": "s3cret"}, "CA bundle"),
        ({"ca_pem": ""}, "CA bundle"),
        ({"ca_pem": "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"}, "CA bundle"),
        ({"ca_pem": "é"}, "CA bundle"),
        ({"client_cert_pem": b"s3cret", "client_key_pem": client_pair()[1]}, "client certificate"),
        ({"client_cert_pem": client_pair()[0], "client_key_pem": b"s3cret"}, "private key"),
        ({"client_cert_pem": client_pair()[0], "client_key_pem": client_pair()[1]}, "does not belong"),
        ({"client_cert_pem": client_pair()[0], "client_key_pem": encrypted_key()}, "encrypted"),
        ({"client_cert_pem": client_pair()[0]}, "private key is missing"),
        ({"client_key_pem": client_pair()[1]}, "certificate is missing"),
    ],
)
def test_tls_pem_that_cannot_be_used_is_named_and_not_shown(parts: dict[str, str | bytes], named: str) -> None:
    with pytest.raises(errors.CertificateInvalid, match=named) as caught:
        EngineClient(Connection("https://host", **parts))  # type: ignore[arg-type]
    assert "s3c" not in caught.value.message
    assert "BEGIN" not in caught.value.message
    assert caught.value.__cause__ is None


@pytest.fixture
def only_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A system without files in memory."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_tls_private_key_leaves_no_file_behind(only_files: Path) -> None:
    cert, key = client_pair()
    EngineClient(Connection("https://host", client_cert_pem=cert, client_key_pem=key))
    with pytest.raises(errors.CertificateInvalid):
        EngineClient(Connection("https://host", client_cert_pem=cert, client_key_pem=client_pair()[1]))


def test_tls_private_key_leaves_no_open_file_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    cert, key = client_pair()
    EngineClient(Connection("https://host", client_cert_pem=cert, client_key_pem=key))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
