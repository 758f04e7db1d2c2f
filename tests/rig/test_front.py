"""The rig's front: it protects as real ones do, and misbehaves as told."""

import http.client
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.rig import Engine, Front, KeyPair, Misbehaviour, Reply
from e2e.rig.wire import exchange


def ask(front: Front, path: str = "/version", *, ca: str | None = None, login: KeyPair | None = None, **how) -> Reply:
    tls = ssl.create_default_context(cadata=ca or front.ca_pem)
    if login:
        with tempfile.TemporaryDirectory() as scratch:
            tls.load_cert_chain(*login.write(Path(scratch), "client"))
    return exchange("GET", front.url + path, tls=tls, timeout=5, **how)


@pytest.fixture(scope="module")
def open_front(engine: Engine) -> Iterator[Front]:
    with Front(engine.admin_url) as running:
        yield running


@pytest.fixture
def front(open_front: Front) -> Iterator[Front]:
    yield open_front
    open_front.behave()
    open_front.serve_good_certificate()
    open_front.rotate_token(None)
    open_front.asked.clear()


def test_front_passes_requests_and_answers_through(front: Front, engine: Engine) -> None:
    assert ask(front).json() == engine.admin("GET", "/version").json()
    tls = ssl.create_default_context(cadata=front.ca_pem)
    rows = exchange(
        "POST", f"{front.url}/query", {"query": "select 1 as one"}, tls=tls, headers={"accept": "application/json"}
    )
    assert rows.json() == {"rows": [{"one": 1}]}
    assert [asked.path for asked in front.asked] == ["/version", "/query"]


def test_front_token_rotated_refuses_the_old_one(front: Front) -> None:
    front.rotate_token("new")
    assert ask(front, headers={"authorization": "Bearer old"}).status == 401
    assert ask(front, headers={"authorization": "Bearer new"}).status == 200
    assert [asked.authorized for asked in front.asked] == [False, True]


def test_front_without_client_certificate_refuses(engine: Engine) -> None:
    with Front(engine.admin_url, client_certs=True) as front:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(front)
        assert ask(front, login=front.issue_client_cert("operator")).status == 200
        assert front.asked[-1].client == "operator"


def test_front_bad_certificates_fail_verification_until_good_again(front: Front) -> None:
    front.serve_certificate_of_another_host()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        ask(front)
    other = front.serve_certificate_of_another_ca()
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(front)
    assert ask(front, ca=other.pem).status == 200
    front.serve_expired_certificate()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        ask(front)
    front.serve_good_certificate()
    assert ask(front).status == 200


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (Misbehaviour.HTML, 200),
        (Misbehaviour.REDIRECT, 302),
        (Misbehaviour.UNAUTHORIZED, 401),
        (Misbehaviour.FORBIDDEN, 403),
        (Misbehaviour.TOO_MANY, 429),
        (Misbehaviour.UNAVAILABLE, 503),
    ],
)
def test_front_misbehaving_below_a_prefix_leaves_the_rest_alone(front: Front, how: Misbehaviour, status: int) -> None:
    front.misbehave(how, "/deployments")
    assert ask(front, "/deployments").status == status
    assert "version" in ask(front).json()


@pytest.mark.parametrize("how", [Misbehaviour.CLOSE, Misbehaviour.LOST_ANSWER])
def test_front_closing_gives_no_answer(front: Front, how: Misbehaviour) -> None:
    front.misbehave(how)
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(front)


def test_front_cutting_answers_in_half_gives_broken_json(front: Front) -> None:
    front.misbehave(Misbehaviour.CUT_JSON)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        ask(front).json()
    front.misbehave(Misbehaviour.CUT_STREAM)
    with pytest.raises((http.client.IncompleteRead, OSError)):
        ask(front)


def test_front_hanging_answers_again_once_it_behaves(front: Front) -> None:
    front.misbehave(Misbehaviour.HANG)
    tls = ssl.create_default_context(cadata=front.ca_pem)
    with pytest.raises(TimeoutError):
        exchange("GET", f"{front.url}/version", tls=tls, timeout=0.3)
    front.behave()
    assert ask(front).status == 200
