import pytest

from invocation_operator.engine.errors import VersionUnsupported
from invocation_operator.engine.version import Support, parse_version, require_supported, supported


@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        ("1.6.1", Support.SUPPORTED, "the oldest that was tried"),
        ("1.6.2", Support.SUPPORTED, "a patch of it"),
        ("1.7.0", Support.SUPPORTED, "in the range"),
        ("1.7.12", Support.SUPPORTED, "the newest that was tried"),
        ("1.7.99", Support.SUPPORTED, "a later patch of a minor that was tried"),
        ("v1.7.12", Support.SUPPORTED, "with a v"),
        ("1.7", Support.SUPPORTED, "without a patch"),
        (" 1.7.12\n", Support.SUPPORTED, "with white space"),
        ("1.7.12+abc.def", Support.SUPPORTED, "with build metadata"),
        ("1.7.13-rc.1", Support.SUPPORTED, "a prerelease in the range"),
        ("1.8.0", Support.UNTESTED, "a newer minor"),
        ("1.8.0-dev", Support.UNTESTED, "its prerelease"),
        ("1.8.0-rc.1+g123", Support.UNTESTED, "its prerelease with build metadata"),
        ("1.10.0", Support.UNTESTED, "compared as numbers"),
        ("1.6.1-rc.1", Support.UNSUPPORTED, "before the oldest release"),
        ("1.6.0", Support.UNSUPPORTED, "older"),
        ("1.5.3", Support.UNSUPPORTED, "no pause"),
        ("1.4.4", Support.UNSUPPORTED, "no resume"),
        ("0.9.2", Support.UNSUPPORTED, "another major"),
        ("2.0.0", Support.UNSUPPORTED, "another major may mean anything"),
        ("", Support.UNSUPPORTED, "no version"),
        ("latest", Support.UNSUPPORTED, "no version"),
        ("1.7.x", Support.UNSUPPORTED, "no version"),
        ("1.7.12.4", Support.UNSUPPORTED, "no version"),
        ("9" * 300, Support.UNSUPPORTED, "no version"),
    ],
)
def test_version_supported_by_range(text: str, expected: Support, why: str) -> None:
    version = parse_version(text)
    assert supported(version) is expected, why
    if expected is Support.UNSUPPORTED:
        with pytest.raises(VersionUnsupported, match="upgrade"):
            require_supported(version)
    else:
        assert require_supported(version) is expected


def test_version_keeps_what_the_engine_wrote() -> None:
    version = parse_version("1.8.0-rc.1")
    assert str(version) == "1.8.0-rc.1"
    assert version.release == (1, 8, 0)
    assert version.prerelease == "rc.1"
