"""The resources that the operator reads and writes."""

from invocation_operator.api.v1alpha1.action import ACTION_KIND
from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND
from invocation_operator.api.v1alpha1.record import RECORD_KIND
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND
from invocation_operator.cluster.client import Resource

ACTIONS = Resource(ACTION_KIND.plural, GROUP, VERSION)
ENGINES = Resource(ENGINE_KIND.plural, GROUP, VERSION)
RECORDS = Resource(RECORD_KIND.plural, GROUP, VERSION)
RETENTION_POLICIES = Resource(RETENTION_KIND.plural, GROUP, VERSION)
SECRETS = Resource("secrets")
NAMESPACES = Resource("namespaces")
CONFIG_MAPS = Resource("configmaps")
EVENTS = Resource("events")
LEASES = Resource("leases", "coordination.k8s.io")
CRDS = Resource("customresourcedefinitions", "apiextensions.k8s.io")
CLOUD_ENVIRONMENTS = Resource("restatecloudenvironments", "restate.dev", "v1beta1")

SOURCES = {ACTION_KIND.kind: ACTIONS, RETENTION_KIND.kind: RETENTION_POLICIES}
"""What asks for runs, by kind."""
