"""What the API server's answers, and the lack of them, are called."""

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException

from invocation_operator.cluster import errors
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.resources import CONFIG_MAPS
from tests.unit.engine.fake_admin import Asked, Wire, fake_admin

ETCD = "etcdserver: request is too large"
RPC = "rpc error: code = ResourceExhausted desc = trying to send message larger than max (3000 vs. 2000)"
CRD = 'InvocationRecord "x" is invalid: spec.specification: Too long: may not be more than 262144 bytes'
CONFIG_MAP = 'ConfigMap "x" is invalid: []: Too long: must have at most 1048576 bytes'


async def failure(status: int, body: bytes) -> errors.ClusterError:
    async def script(_: Asked, wire: Wire) -> None:
        await wire.reply(status, body)

    async with fake_admin(script) as server, KubeClient(Configuration(host=server.url)) as client:
        with pytest.raises(errors.ClusterError) as caught:
            await client.create(CONFIG_MAPS, "shop", {"metadata": {"name": "x"}})
    return caught.value


def status(message: str, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": message, **more}).encode()


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        pytest.param(413, status("Request entity too large: limit is 3145728"), errors.TooLarge, id="the request"),
        pytest.param(413, b"<html>413</html>", errors.TooLarge, id="in a proxy's words"),
        pytest.param(500, status(ETCD), errors.TooLarge, id="etcd, which would be tried for ever"),
        pytest.param(500, status(RPC), errors.TooLarge, id="etcd's client"),
        pytest.param(422, status(CRD), errors.TooLarge, id="a text of ours"),
        pytest.param(422, status(CONFIG_MAP), errors.TooLarge, id="a chunk"),
        pytest.param(422, status("spec.phase: Unsupported value"), errors.WriteRefused, id="anything else in it"),
        pytest.param(500, status("etcdserver: leader changed"), errors.ClusterUnavailable, id="it may heal"),
        pytest.param(429, status("too many requests"), errors.ClusterUnavailable, id="too many is not too large"),
        pytest.param(410, status("Expired: too old"), errors.ClusterUnavailable, id="a list that took too long"),
        pytest.param(403, status("no"), errors.Forbidden, id="rights"),
        pytest.param(401, status("Unauthorized"), errors.Forbidden, id="credentials"),
        pytest.param(409, status("there", reason="AlreadyExists"), errors.ObjectExists, id="taken"),
        pytest.param(409, status("stale", reason="Conflict"), errors.WriteConflict, id="somebody was faster"),
        pytest.param(200, b"[1, 2]", errors.ClusterUnavailable, id="no object"),
        pytest.param(502, b'"bad gateway"', errors.ClusterUnavailable, id="no object and no luck"),
    ],
)
async def test_client_names_each_failure(code: int, body: bytes, kind: type[errors.ClusterError]) -> None:
    assert type(await failure(code, body)) is kind


@pytest.mark.parametrize("content", [None, ""])
async def test_client_without_its_token_file_may_heal(tmp_path: Path, content: str | None) -> None:
    """The file is read again every minute; a node under pressure may fail to give it."""
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)

    async def script(_: Asked, wire: Wire) -> None:
        await wire.json(200, {})

    def read_again(_: Configuration) -> None:
        if not token.read_text():
            raise ConfigException("Token file exists but empty.")

    async with fake_admin(script) as server:
        configuration = Configuration(host=server.url)
        configuration.api_key["BearerToken"] = "bearer former"
        configuration.refresh_api_key_hook = read_again
        async with KubeClient(configuration) as client:
            with pytest.raises(errors.ClusterUnavailable, match="credentials"):
                await client.version()
            token.write_text("t")
            assert await client.version() == {}


async def test_client_that_does_not_lead_reads_and_sends_no_write() -> None:
    async def script(_: Asked, wire: Wire) -> None:
        await wire.json(200, {"metadata": {"name": "x"}})

    async with fake_admin(script) as server:
        configuration = Configuration(host=server.url)
        async with KubeClient(configuration, may_write=lambda: False) as client:
            assert await client.get(CONFIG_MAPS, "shop", "x")
            body = {"metadata": {"name": "x"}}
            for write in (
                client.create(CONFIG_MAPS, "shop", body),
                client.replace(CONFIG_MAPS, "shop", "x", body),
                client.replace_status(CONFIG_MAPS, "shop", "x", body),
                client.patch_status(CONFIG_MAPS, "shop", "x", body),
                client.delete(CONFIG_MAPS, "shop", "x"),
            ):
                with pytest.raises(errors.NotLeading):
                    await write
        assert [asked.method for asked in server.asked] == ["GET"]


async def test_list_of_nothing_is_empty_also_when_it_is_null() -> None:
    """As the API server answers for metadata alone."""

    async def script(_: Asked, wire: Wire) -> None:
        await wire.json(200, {"kind": "PartialObjectMetadataList", "metadata": {}, "items": None})

    async with fake_admin(script) as server, KubeClient(Configuration(host=server.url)) as client:
        assert [obj async for obj in client.list(CONFIG_MAPS, "shop", metadata_only=True)] == []


async def test_client_goes_through_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(_: Asked, wire: Wire) -> None:
        await wire.json(200, {"gitVersion": "v1"})

    async with fake_admin(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        async with KubeClient(Configuration(host="http://apiserver.example")) as client:
            assert (await client.version())["gitVersion"] == "v1"
        assert len(proxy.asked) == 1
