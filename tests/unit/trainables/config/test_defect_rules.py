import pytest

from trainables.config.defect_rules import RULES, chosen_actions, default_actions
from trainables.errors import UserError


def test_every_rule_says_what_must_hold_what_to_do_and_why_it_hurts():
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.default in rule.actions
        assert rule.must.startswith("must") or " must " in rule.must or " should " in rule.must
        assert rule.remedy
        assert rule.why.endswith(".")


def test_lines_that_cannot_be_used_cannot_be_kept():
    kept = {name for name, rule in RULES.items() if "keep" in rule.actions}
    assert not kept & {"broken_json", "wrong_type", "missing_field", "empty_response", "repeated_id", "too_long"}
    assert {"leakage", "near_duplicate", "mojibake"} <= kept


def test_a_careful_person_refuses_leaks_and_drops_copies_but_may_choose():
    actions = default_actions()
    assert actions["leakage"] == actions["broken_json"] == actions["too_long"] == "fail"
    assert actions["exact_duplicate"] == actions["near_duplicate"] == "drop"
    assert actions["conflicting_responses"] == actions["response_length"] == "keep"
    assert chosen_actions({}) == default_actions()
    assert chosen_actions({"leakage": "drop"}) == default_actions() | {"leakage": "drop"}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"leak": "drop"}, "data.on_defect: must name a rule of the audit, got leak; "),
        ({"broken_json": "keep"}, "data.on_defect.broken_json: must be fail or drop, got keep; "),
        ({"leakage": "ignore"}, "data.on_defect.leakage: must be fail or drop or keep, got ignore; "),
    ],
)
def test_an_action_that_a_rule_does_not_have_is_refused(actions, message):
    with pytest.raises(UserError) as caught:
        chosen_actions(actions)
    assert str(caught.value).startswith(message)
