"""What a RestateEngine may not say, as CEL. Read by ``engine``."""

from invocation_operator.api.v1alpha1.base import Rule
from invocation_operator.api.v1alpha1.cel import shorter

_IN_CLUSTER = r"^http://(localhost|127([.][0-9]{1,3}){3}|\\[::1\\]|[-a-z0-9.]+[.]svc([.][-a-z0-9.]+)?)(:[0-9]+)?(/.*)?$"
"""Loopback, and names below ``.svc``. Which domain may follow is a setting of the operator, which checks it."""

_NO_PORT = "(0+|6553[6-9]|655[4-9][0-9]|65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4})"

ADMIN_URL_RULES = (
    Rule(
        f"!self.matches('^https?://[^/]*:{_NO_PORT}(/|$)')",
        message="a port is a number from 1 to 65535",
    ),
    Rule(
        "!self.matches('^https?://[[]') || isIP(self.find('[[][^]]*').substring(1)) && "
        "ip(self.find('[[][^]]*').substring(1)).family() == 6",
        message="what stands in brackets must be an IPv6 address",
    ),
)

ENDING_RULE = Rule(shorter("'0s'", "self"), message="it must be longer than nothing, such as 30s")

SPEC_RULES = (
    Rule(
        "[has(self.cluster), has(self.service), has(self.url), has(self.cloud)].filter(given, given).size() == 1",
        message="give exactly one of cluster, service, url and cloud",
    ),
    Rule(
        "!has(self.auth) || !has(self.auth.bearerTokenSecret) || !has(self.url) || !self.url.startsWith('http://') || "
        f"self.url.lowerAscii().matches('{_IN_CLUSTER}')",
        message="a bearer token is not sent over plain http but to in-cluster services (a host that ends in .svc or "
        ".svc.<cluster domain>) and loopback: use https, or spec.service",
        field_path=".url",
    ),
    Rule(
        "!has(self.tls) || has(self.cloud) || has(self.service) || (has(self.url) && self.url.startsWith('https://'))",
        message="tls is for https only: give spec.url with https://, spec.service or spec.cloud",
        field_path=".tls",
    ),
)

ALLOWED_NAMESPACES_RULES = (
    Rule(
        "has(self.selector) == (has(self.from) && self.from == 'Selector')",
        message="selector is required with from: Selector, and only allowed with it",
    ),
)

REQUIREMENT_RULES = (
    Rule(
        "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : "
        "!has(self.values) || self.values.size() == 0",
        message="values are required with In and NotIn, and not allowed with Exists and DoesNotExist",
    ),
)
