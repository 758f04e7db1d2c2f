"""What is committed is what the models say, and what the rules repeat is what the code says."""

from pathlib import Path

import pytest

from invocation_operator import crdgen
from invocation_operator.api.v1alpha1.action import ActionSpec, ActionType, Phase, Verification
from invocation_operator.api.v1alpha1.action_rules import IMMUTABLE, SPEC_RULES, TERMINAL
from invocation_operator.api.v1alpha1.target import Leaf
from invocation_operator.api.v1alpha1.target_rules import NARROWING
from invocation_operator.plan.operations import POSSIBLE
from invocation_operator.target import narrow

ROOT = Path(__file__).parents[3]


def test_committed_files_are_up_to_date() -> None:
    differences = crdgen.check(ROOT / "crds", ROOT / "docs" / "reference" / "api.md")
    assert differences == [], "run `make crds`"


def test_generate_is_the_same_every_time() -> None:
    assert crdgen.generate() == crdgen.generate()
    assert crdgen.reference() == crdgen.reference()


def test_generate_says_how_to_make_the_file_again() -> None:
    assert all("`make crds`" in text.splitlines()[0] for text in crdgen.generate().values())


def test_write_replaces_what_is_old_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "ops.restate.dev_gone.yaml").write_text("old")
    (tmp_path / "kustomization.yaml").write_text("theirs")
    names = sorted(crdgen.generate())
    (tmp_path / names[0]).write_text("changed")
    assert crdgen.check(tmp_path, tmp_path / "api.md") == [
        "ops.restate.dev_gone.yaml is not generated from any model",
        f"{names[0]} is not what the models say",
        *(f"{name} is missing" for name in crdgen.generate() if name != names[0]),
        "api.md is missing",
    ]
    crdgen.write(tmp_path, tmp_path / "api.md")
    assert crdgen.check(tmp_path, tmp_path / "api.md") == []
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "api.md", "kustomization.yaml"])


def test_write_without_a_reference_writes_crds_only(tmp_path: Path) -> None:
    crdgen.write(tmp_path / "crds")
    assert sorted(file.name for file in (tmp_path / "crds").iterdir()) == sorted(crdgen.generate())
    assert crdgen.check(tmp_path / "crds") == []


def test_reference_describes_every_field() -> None:
    text = crdgen.reference()
    for model in (ActionSpec, Leaf):
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in text


def test_rules_narrow_by_the_filters_that_the_operator_narrows_by() -> None:
    assert ("ids", *NARROWING) == narrow.NARROWING


@pytest.mark.parametrize("action", ActionType)
def test_rules_know_the_statuses_that_the_planner_knows(action: ActionType) -> None:
    rules = [rule for rule in SPEC_RULES if "can only apply to" in rule.message and f"'{action.value}'" in rule.rule]
    assert len(rules) == 1
    listed = rules[0].message.partition("can only apply to ")[2].partition(":")[0].split(", ")
    assert set(listed) == {status.value for status in POSSIBLE[action]}


def test_rules_know_the_default_that_they_compare_with() -> None:
    assert Verification().timeout == "5m"


def test_rules_know_every_phase_in_which_a_run_has_ended() -> None:
    alive = {Phase.PENDING, Phase.PLANNING, Phase.AWAITING_APPROVAL, Phase.RUNNING, Phase.VERIFYING, Phase.SUSPENDED}
    assert set(TERMINAL) == {phase.value for phase in Phase} - {phase.value for phase in alive}


def test_rules_freeze_every_field_but_those_that_may_change() -> None:
    fields = {field.alias for field in ActionSpec.model_fields.values()}
    may_change = {"suspend", "mode", "approvedPlan", "runId", "ttlSecondsAfterFinished", "ttlSecondsAfterFailed"}
    assert {name.partition(".")[0] for name in IMMUTABLE} == fields - may_change
