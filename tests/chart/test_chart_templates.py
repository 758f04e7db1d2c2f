"""What the chart makes of its values, without a cluster."""

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from e2e.rig.helm import CHART, Helm, HelmError
from e2e.rig.toolchain import ROOT

Object = dict[str, Any]

SEVERAL = {"scope": "namespaces", "watchNamespaces": ["shop", "123"], "trustedEngineNamespaces": ["platform", "shop"]}
EVERYTHING = {
    **SEVERAL,
    "crds": {"keep": False},
    "image": {"repository": "registry.example/op", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccount": {"annotations": {"example.com/number": "1"}},
    "podLabels": {"team": "a", "app.kubernetes.io/name": "not-yours"},
    "podAnnotations": {"example.com/yes": "true"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "resources": {"limits": {"cpu": 1}},
    "fullnameOverride": "operator",
    "replicas": 3,
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "networkPolicy": {"enabled": True, "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}},
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [{"name": "INVOCATION_OPERATOR_CALL_TIMEOUT_SECONDS", "value": "5"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "defaultEngine": {"service": {"name": "restate"}},
    "allowedEngineUrls": ["http://*.svc.cluster.local:9070"],
}
TABLE = [
    pytest.param({}, id="defaults"),
    pytest.param(SEVERAL, id="several namespaces"),
    pytest.param(EVERYTHING, id="everything set"),
    pytest.param({"crds": {"enabled": False}, "serviceAccount": {"create": False, "name": "mine"}}, id="little of it"),
]


def only(objects: list[Object], kind: str) -> Object:
    (found,) = (obj for obj in objects if obj["kind"] == kind)
    return found


def container(objects: list[Object]) -> Object:
    containers: list[Object] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    (found,) = containers
    return found


def environment(objects: list[Object]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(objects)["env"]}


@pytest.mark.parametrize("values", TABLE)
def test_chart_lint_is_strict_and_clean(helm: Helm, values: Mapping[str, Any]) -> None:
    assert "0 chart(s) failed" in helm.lint(values)


@pytest.mark.parametrize("values", TABLE)
def test_chart_objects_say_whose_they_are(helm: Helm, values: Mapping[str, Any]) -> None:
    objects = helm.template(values)
    assert len(objects) == len({(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects})
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "op"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        clusterwide = obj["kind"] in {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", *POLICIES}
        assert ("namespace" in obj["metadata"]) is not clusterwide, obj["kind"]


def test_chart_version_is_the_package_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["version"] == chart["appVersion"] == package


def test_chart_crds_are_the_repositorys() -> None:
    ours, copies = ({file.name: file.read_bytes() for file in path.glob("*")} for path in CRD_FOLDERS)
    assert ours
    assert copies == ours, "run `make crds`"


CRD_FOLDERS = (ROOT / "crds", CHART / "files" / "crds")


@pytest.mark.parametrize("keep", [True, False])
def test_chart_crds_rendered_differ_only_in_labels_and_keep(helm: Helm, keep: bool) -> None:
    rendered = {
        obj["metadata"]["name"]: obj
        for obj in helm.template({"crds": {"keep": keep}})
        if obj["kind"] == "CustomResourceDefinition"
    }
    originals = [yaml.safe_load(file.read_text()) for file in sorted(CRD_FOLDERS[1].glob("*.yaml"))]
    assert len(rendered) == len(originals)
    for original in originals:
        obj = rendered[original["metadata"]["name"]]
        del obj["metadata"]["labels"]
        if keep:
            original["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep"
        assert obj == original


def test_chart_crds_disabled_are_left_out(helm: Helm) -> None:
    objects = helm.template({"crds": {"enabled": False}})
    assert "CustomResourceDefinition" not in {obj["kind"] for obj in objects}
    # The roles for people belong to the kinds.
    assert not [obj for obj in objects if obj["metadata"]["name"].startswith("invocation-")]


POLICIES = {f"{kind}AdmissionPolicy{part}" for kind in ("Mutating", "Validating") for part in ("", "Binding")}


def test_chart_policies_hold_where_the_release_serves(helm: Helm) -> None:
    wide, narrow = helm.template(), helm.template(SEVERAL)
    assert {obj["kind"] for obj in wide} >= POLICIES
    assert environment(wide)["INVOCATION_OPERATOR_REQUESTER_ANNOTATION_TRUSTED"] == "true"
    where = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", "123"]}
    for objects, expected in ((wide, None), (narrow, {"namespaceSelector": {"matchExpressions": [where]}})):
        bindings = [obj["spec"] for obj in objects if obj["kind"].endswith("PolicyBinding")]
        assert {str(binding.get("matchResources")) for binding in bindings} == {str(expected)}
        policies = {obj["metadata"]["name"] for obj in objects if obj["kind"].endswith("AdmissionPolicy")}
        assert {binding["policyName"] for binding in bindings} == policies


def test_chart_policies_are_optional_and_nobody_is_named_without_them(helm: Helm) -> None:
    without = helm.template({"admissionPolicies": {"enabled": False}})
    assert not POLICIES & {obj["kind"] for obj in without}
    assert "INVOCATION_OPERATOR_REQUESTER_ANNOTATION_TRUSTED" not in environment(without)
    unstamped = {obj["kind"] for obj in helm.template({"admissionPolicies": {"stampAuthors": "Never"}})}
    assert POLICIES & unstamped == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


@pytest.mark.parametrize(
    ("version", "stamped"), [("1.33.13", False), ("1.35.4", False), ("1.36.0", True), ("1.37.2-gke.100", True)]
)
def test_chart_policies_stamp_where_the_cluster_can(helm: Helm, version: str, stamped: bool) -> None:
    text = helm.run("template", "op", CHART, "--kube-version", version)
    assert ("kind: MutatingAdmissionPolicy\n" in text) is stamped


def test_chart_is_not_for_clusters_that_refuse_its_crds(helm: Helm) -> None:
    with pytest.raises(HelmError, match=r"chart requires kubeVersion: >=1\.33\.0-0"):
        helm.run("template", "op", CHART, "--kube-version", "1.32.13")


@pytest.mark.parametrize("values", TABLE)
def test_chart_pod_is_restricted(helm: Helm, values: Mapping[str, Any]) -> None:
    pod = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]
    (operator,) = pod["containers"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert operator["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert operator["resources"]["limits"]["memory"]


def test_chart_pod_is_followed_by_one_that_stands_by_already(helm: Helm) -> None:
    objects = helm.template({"replicas": 2, "leaderElection": {"leaseSeconds": 8}})
    deployment = only(objects, "Deployment")["spec"]
    rolling = {"maxSurge": 1, "maxUnavailable": 0}
    assert (deployment["replicas"], deployment["strategy"]) == (2, {"type": "RollingUpdate", "rollingUpdate": rolling})
    options = environment(objects)
    assert options["INVOCATION_OPERATOR_LEADER_ELECT"] == "true"
    assert options["INVOCATION_OPERATOR_LEASE_SECONDS"] == "8"
    (rights,) = (rule for obj in objects for rule in obj.get("rules", ()) if rule["verbs"] == ["get", "update"])
    assert rights["resourceNames"] == [options["INVOCATION_OPERATOR_LEASE_NAME"]]


def test_chart_pod_without_an_election_never_overlaps_with_its_successor(helm: Helm) -> None:
    objects = helm.template({"leaderElection": {"enabled": False}})
    deployment = only(objects, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert "INVOCATION_OPERATOR_LEADER_ELECT" not in environment(objects)
    assert not [rule for obj in objects for rule in obj.get("rules", ()) if "leases" in rule["resources"]]


def test_chart_probes_ask_the_health_port(helm: Helm) -> None:
    operator = container(helm.template({"ports": {"health": 18081, "metrics": 19090}}))
    assert operator["ports"] == [
        {"name": "metrics", "containerPort": 19090},
        {"name": "health", "containerPort": 18081},
    ]
    assert operator["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert operator["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_chart_options_by_default(helm: Helm) -> None:
    assert environment(helm.template()) == {
        "INVOCATION_OPERATOR_OPERATOR_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "INVOCATION_OPERATOR_CLUSTER_DOMAIN": "cluster.local",
        "INVOCATION_OPERATOR_METRICS_PORT": "9090",
        "INVOCATION_OPERATOR_HEALTH_PORT": "8081",
        "INVOCATION_OPERATOR_LOG_FORMAT": "json",
        "INVOCATION_OPERATOR_LOG_LEVEL": "info",
        "INVOCATION_OPERATOR_LEADER_ELECT": "true",
        "INVOCATION_OPERATOR_LEASE_NAME": "op-restate-invocation-operator",
        "INVOCATION_OPERATOR_LEASE_SECONDS": "10",
        "INVOCATION_OPERATOR_SHUTDOWN_SECONDS": "20",
        "INVOCATION_OPERATOR_REQUESTER_ANNOTATION_TRUSTED": "true",
        "INVOCATION_OPERATOR_RECORD_RETENTION_DAYS": "400",
    }


def test_chart_options_follow_the_values(helm: Helm) -> None:
    values = {**SEVERAL, "clusterDomain": "k8s.example", "logging": {"level": "debug", "format": "console"}}
    values["recordRetentionDays"] = 0
    options = environment(helm.template(values))
    assert options["INVOCATION_OPERATOR_NAMESPACES"] == '["shop","123"]'
    assert options["INVOCATION_OPERATOR_TRUSTED_ENGINE_NAMESPACES"] == '["platform","shop"]'
    assert options["INVOCATION_OPERATOR_CLUSTER_DOMAIN"] == "k8s.example"
    assert options["INVOCATION_OPERATOR_LOG_LEVEL"] == "debug"
    assert options["INVOCATION_OPERATOR_LOG_FORMAT"] == "console"
    assert options["INVOCATION_OPERATOR_RECORD_RETENTION_DAYS"] == "0"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "restate-invocation-operator:0.1.0"),
        ({"repository": "registry.example:5000/op", "tag": "edge"}, "registry.example:5000/op:edge"),
        ({"tag": "ignored", "digest": f"sha256:{'a' * 64}"}, f"restate-invocation-operator@sha256:{'a' * 64}"),
    ],
)
def test_chart_image(helm: Helm, image: Mapping[str, str], expected: str) -> None:
    assert container(helm.template({"image": image}))["image"] == expected


def test_chart_labels_of_the_pod_cannot_break_its_selector(helm: Helm) -> None:
    deployment = only(helm.template(EVERYTHING), "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels["team"] == "a"
    assert deployment["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("scope", [{}, SEVERAL])
def test_chart_existing_service_account_is_bound_and_not_made(helm: Helm, scope: Mapping[str, Any]) -> None:
    objects = helm.template({**scope, "serviceAccount": {"create": False, "name": "mine"}})
    assert not [obj for obj in objects if obj["kind"] == "ServiceAccount"]
    assert only(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    subjects = [subject for obj in objects for subject in obj.get("subjects", ())]
    assert subjects
    assert all(subject == {"kind": "ServiceAccount", "name": "mine", "namespace": "op-system"} for subject in subjects)


def test_chart_two_releases_of_one_name_share_no_object(helm: Helm) -> None:
    seen: set[tuple[str, str, str]] = set()
    for namespace, watched in (("one", "shop"), ("two", "bank")):
        values = {"scope": "namespaces", "watchNamespaces": [watched, "common"], "crds": {"enabled": False}}
        keys = {
            (obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            for obj in helm.template(values, namespace=namespace)
        }
        assert not keys & seen
        seen |= keys


def test_chart_network_policy_names_every_way_that_the_operator_goes(helm: Helm) -> None:
    peer = {"ipBlock": {"cidr": "10.0.0.1/32"}}
    values = {"networkPolicy": {"enabled": True, "apiServer": {"to": [peer]}, "engines": {"ports": [9070, 19070]}}}
    objects = helm.template(values)
    policy = only(objects, "NetworkPolicy")["spec"]
    assert policy["podSelector"] == only(objects, "Deployment")["spec"]["selector"]
    ways = {tuple(port["port"] for port in rule["ports"]): rule.get("to") for rule in policy["egress"]}
    assert ways == {(53, 53): None, (443, 6443): [peer], (9070, 19070): None}
    assert policy["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    assert not [obj for obj in helm.template() if obj["kind"] == "NetworkPolicy"]


def test_chart_metrics_are_found_by_prometheus(helm: Helm) -> None:
    values = {"metrics": {"serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}}}}
    objects = helm.template(values)
    service, monitor = only(objects, "Service"), only(objects, "ServiceMonitor")
    pod = only(objects, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "interval": "1m"}]
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]
    assert not [obj for obj in helm.template() if obj["kind"] == "ServiceMonitor"]


@pytest.mark.parametrize("replicas", [1, 3])
def test_chart_disruption_budget_never_keeps_a_node_from_being_drained(helm: Helm, replicas: int) -> None:
    objects = helm.template({"replicas": replicas})
    budget = only(objects, "PodDisruptionBudget")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": only(objects, "Deployment")["spec"]["selector"]}


def test_chart_pod_takes_what_is_added_to_it(helm: Helm) -> None:
    pod = only(helm.template(EVERYTHING), "Deployment")["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert EVERYTHING["extraEnv"][0] in pod["containers"][0]["env"]
    assert EVERYTHING["extraVolumes"][0] in pod["volumes"]
    assert EVERYTHING["extraVolumeMounts"][0] in pod["containers"][0]["volumeMounts"]
    assert pod["affinity"] == EVERYTHING["affinity"]


def test_chart_job_before_the_end_finds_image_and_node_as_the_pod_does(helm: Helm) -> None:
    objects = helm.template(EVERYTHING)
    pods = {kind: only(objects, kind)["spec"]["template"]["spec"] for kind in ("Deployment", "Job")}
    for given in ("imagePullSecrets", "nodeSelector", "tolerations"):
        assert pods["Job"][given] == pods["Deployment"][given] == EVERYTHING[given], given
    assert pods["Job"]["containers"][0]["image"] == pods["Deployment"]["containers"][0]["image"]


def test_chart_job_before_the_end_may_take_as_long_as_it_waits_for_the_leader(helm: Helm) -> None:
    job = only(helm.template({"leaderElection": {"leaseSeconds": 300}}), "Job")
    assert job["spec"]["activeDeadlineSeconds"] >= 300 + 60


@pytest.mark.parametrize("selector", [None, {"matchLabels": {"team": "a"}}])
def test_chart_pods_are_spread_by_their_own_labels_unless_others_are_named(helm: Helm, selector: Any) -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    given = {**spread, "labelSelector": selector} if selector else spread
    deployment = only(helm.template({"topologySpreadConstraints": [given]}), "Deployment")["spec"]
    (found,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert found == {**spread, "labelSelector": selector or deployment["selector"]}
    (default,) = only(helm.template(), "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert default["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize("served", [False, True])
def test_chart_default_engine_comes_last_where_its_kind_is_not_served_yet(helm: Helm, served: bool) -> None:
    spec = {"service": {"name": "restate"}, "allowedNamespaces": {"from": "All"}}
    options = ("--api-versions", "ops.restate.dev/v1alpha1") if served else ()
    engine = only(helm.template({"defaultEngine": spec}, *options), "RestateEngine")
    assert (engine["metadata"]["name"], engine["spec"]) == ("default", spec)
    annotations = engine["metadata"].get("annotations", {})
    assert annotations["helm.sh/resource-policy"] == "keep", "a rollback to the first revision would delete it"
    assert ("helm.sh/hook" in annotations) is not served
    assert served or annotations["meta.helm.sh/release-name"] == "op"
