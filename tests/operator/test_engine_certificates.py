"""TLS to an engine: whose certificates are accepted, and how they change."""

from tests.operator.conftest import Stage
from tests.operator.fronts import Fronted, fronted, message_of

CA = {"caSecret": {"name": "ca", "key": "ca.crt"}}
MUTUAL = {**CA, "clientCertSecret": {"name": "client"}}


def test_tls_only_a_certificate_of_the_right_authority_name_and_time_is_accepted(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage, tls=True) as it:
        it.define("without")
        it.secret("ca", ca_crt=it.front.ca_pem)
        it.define(tls=CA)
        it.engine_says("Reachable")
        assert "spec.tls" in message_of(it.engine_says("CertificateInvalid", name="without"))

        it.front.serve_certificate_of_another_ca()
        assert "spec.tls" in message_of(it.engine_says("CertificateInvalid"))
        it.cancel(id_)
        assert "spec.tls" in it.waits("CertificateInvalid")

        it.front.serve_expired_certificate()
        stage.until(lambda: "expired" in message_of(it.engine_says("CertificateInvalid")), 60)

        it.front.serve_certificate_of_another_host("engine.internal")
        stage.until(lambda: "127.0.0.1" in message_of(it.engine_says("CertificateInvalid")), 60)
        assert not it.front.writes()

        stage.patch("front", {"tls": {"serverName": "engine.internal"}}, "restateengines")
        it.engine_says("Reachable")
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"


def hinted(it: Fronted) -> bool:
    """Whether people are led to the client certificate. A front may refuse it by an alert or just hang up."""
    found = it.stage.get("front", "restateengines")["status"].get("conditions")
    if not found or found[0]["observedGeneration"] < it.stage.get("front", "restateengines")["metadata"]["generation"]:
        return False
    return found[0]["reason"] in ("CertificateInvalid", "Unreachable") and "clientCertSecret" in found[0]["message"]


def test_tls_mutual_asks_for_the_operators_certificate_and_takes_a_rotated_one(stage: Stage) -> None:
    with fronted(stage, tls=True, client_certs=True) as it:
        it.secret("ca", ca_crt=it.front.ca_pem)
        it.define(tls=CA)
        stage.until(lambda: hinted(it), 60)

        stage.patch("front", {"tls": MUTUAL}, "restateengines")
        assert f"{stage.namespace}/client" in message_of(it.engine_says("SecretNotFound"))

        expired = it.front.issue_client_cert("expired", days=-1)
        it.secret("client", tls_crt=expired.cert, tls_key=expired.key)
        stage.until(lambda: hinted(it), 60)

        first = it.front.issue_client_cert("first")
        it.secret("client", tls_crt=first.cert, tls_key=first.key)
        it.engine_says("Reachable")
        assert it.front.asked[-1].client == "first"

        ids = [stage.send("sleep_long", 3600.0) for _ in range(24)]
        stage.engine.wait_status(ids[-1], "suspended")
        it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 6})
        stage.until(lambda: len(it.front.writes()) >= 3, 60)
        second = it.front.issue_client_cert("second")
        it.secret("client", tls_crt=second.cert, tls_key=second.key)
        it.touch("front")
        assert stage.ended("act", timeout=90)["status"]["phase"] == "Succeeded"
        assert {asked.client for asked in it.front.writes()} == {"first", "second"}
        assert len({asked.path for asked in it.front.writes()}) == len(it.front.writes()) == len(ids)
