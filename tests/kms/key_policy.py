"""Key policies: the part of AWS's policy language that `tmkms nitro kms-policy` prints and that our tests need.

What is not known here is an error when the policy is loaded: a test must not pass because a condition was ignored.
"""

import fnmatch

STATEMENT_MEMBERS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}


class PolicyError(Exception):
    pass


def as_list(value):
    return value if isinstance(value, list) else [value]


def _equals(wanted, got):
    return got in wanted


def _equals_ignore_case(wanted, got):
    return got.lower() in [w.lower() for w in wanted]


def _like(wanted, got):
    return any(fnmatch.fnmatchcase(got, w) for w in wanted)


OPERATORS = {"StringEquals": _equals, "StringEqualsIgnoreCase": _equals_ignore_case, "StringLike": _like}
NEGATED = {"StringNotEquals": "StringEquals", "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
           "StringNotLike": "StringLike"}


def condition_holds(operator, key, wanted, context):
    """One line of a condition. Keys are compared without regard to case, as IAM does; context keys are lower case."""
    got = context.get(key.lower())
    wanted = [str(w) for w in as_list(wanted)]
    if operator == "Null":
        return wanted == ["true" if got is None else "false"]
    base, may_be_absent = (operator[:-8], True) if operator.endswith("IfExists") else (operator, False)
    if base in NEGATED:  # an absent key is not equal
        return got is None or not OPERATORS[NEGATED[base]](wanted, got)
    if got is None:
        return may_be_absent
    return OPERATORS[base](wanted, got)


def check(policy):
    """Raises PolicyError for anything that `allows` would not understand."""
    if not policy.get("Statement"):
        raise PolicyError("the policy has no Statement")
    for statement in as_list(policy["Statement"]):
        unknown = set(statement) - STATEMENT_MEMBERS
        if unknown:
            raise PolicyError(f"unknown members of a statement: {sorted(unknown)}")
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise PolicyError("Effect is neither Allow nor Deny")
        for member in ("Principal", "Action", "Resource"):
            if member not in statement:
                raise PolicyError(f"a statement has no {member}")
        for operator in statement.get("Condition", {}):
            base = operator.removesuffix("IfExists")
            if operator != "Null" and base not in OPERATORS and base not in NEGATED:
                raise PolicyError(f"unknown condition operator {operator}")


def principal_matches(principal, caller):
    if principal == "*":
        return True
    wanted = as_list(principal.get("AWS", []))
    account_root = f"arn:aws:iam::{caller['account']}:root"
    for arn in wanted:
        if arn in ("*", caller["arn"]):
            return True
        # Naming the account leaves the decision to IAM: only the administrator has been given something there.
        if arn in (account_root, caller["account"]) and caller["is_admin"]:
            return True
    return False


def statement_matches(statement, caller, action, resource, context):
    return (principal_matches(statement["Principal"], caller)
            and any(fnmatch.fnmatchcase(action.lower(), a.lower()) for a in as_list(statement["Action"]))
            and any(fnmatch.fnmatchcase(resource, r) for r in as_list(statement["Resource"]))
            and all(condition_holds(operator, key, wanted, context)
                    for operator, lines in statement.get("Condition", {}).items()
                    for key, wanted in lines.items()))


def allows(policy, caller, action, resource, context):
    """IAM's rule: a Deny that matches wins, without a matching Allow it is no. context: lower-case key -> text."""
    check(policy)
    effects = {s["Effect"] for s in as_list(policy["Statement"])
               if statement_matches(s, caller, action, resource, context)}
    return effects == {"Allow"}
