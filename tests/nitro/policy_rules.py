#!/usr/bin/env python3
"""What the policy of `tmkms nitro kms-policy` allows, request by request, under the rules of tests/kms/key_policy.py.

Usage: policy_rules.py TMKMS_PROGRAM
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kms"))
from key_policy import allows, check  # noqa: E402

TMKMS = sys.argv[1]
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/enclave"
INSTANCE = "i-0123456789abcdef0"
PCR0 = "ab" * 48
KEY = "arn:aws:kms:eu-west-1:123456789012:key/k"
CONFIG = """
[[chain]]
id = "a-1"
key_format = { type = "hex" }
state_vsock_port = 6666
min_height = MIN_HEIGHT
public_key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
[[validator]]
chain_id = "a-1"
addr = { port = 5555, secret_connection = false }
[[providers.softsign]]
chain_ids = ["a-1"]
encrypted_key_b64 = "AAAA"
aws_region = "eu-west-1"
encryption_context = { bound = "@measured_config" }
"""


def run(*args):
    return subprocess.run([TMKMS, "nitro", *args], check=True, capture_output=True, text=True).stdout


def pcr(data):
    return hashlib.sha384(bytes(48) + data).hexdigest()


def measured(path):
    """The hash, recomputed from the printed text, and the PCR16 that follows from it."""
    lines, text = run("measure-config", path).split("\n\n", 1)
    digest = hashlib.sha384(text.encode())
    want = f"hash   {digest.hexdigest()}\nPCR16  {pcr(digest.digest())}"
    assert lines == want, (lines, want)
    return digest.hexdigest(), pcr(digest.digest())


def context(registers, encryption_context):
    """The condition keys of a request with a Recipient; registers None: without one."""
    keys = {f"kms:encryptioncontext:{k}": v for k, v in encryption_context.items()}
    for index, value in (registers or {}).items():
        keys[f"kms:recipientattestation:pcr{index}"] = value
    if registers is not None:
        keys["kms:recipientattestation:imagesha384"] = registers[0]
    return keys


def caller(arn, is_admin=False):
    return {"account": ACCOUNT, "arn": arn, "is_admin": is_admin}


def main():
    failures = []

    def expect(want, what, policy, who, action, registers, encryption_context):
        if allows(policy, who, action, KEY, context(registers, encryption_context)) != want:
            failures.append(f"{what}: {'refused' if want else 'allowed'}")

    with tempfile.TemporaryDirectory() as folder:
        path, other_path = Path(folder, "tmkms.toml"), Path(folder, "other.toml")
        path.write_text(CONFIG.replace("MIN_HEIGHT", "1"))
        other_path.write_text(CONFIG.replace("MIN_HEIGHT", "2"))
        config_hash, pcr16 = measured(str(path))
        other_hash, other_pcr16 = measured(str(other_path))
        made = ["kms-policy", "--account", ACCOUNT, "--role", ROLE, "--instance", INSTANCE, "-c", str(path)]
        policy = json.loads(run(*made, "--pcr0", PCR0))
        debug = json.loads(run(*made, "--debug"))
        exchange = json.loads(run(*made, "--pcr0", PCR0, "--pcr0", "ef" * 48))
    check(policy)
    check(debug)

    right = {0: PCR0.upper(), 4: pcr(INSTANCE.encode()), 16: pcr16}
    zeros = {i: "0" * 96 for i in range(16)}
    bound = {"bound": config_hash}
    role, admin = caller(ROLE), caller(f"arn:aws:iam::{ACCOUNT}:user/root-of-trust", is_admin=True)
    stranger = caller(f"arn:aws:iam::{ACCOUNT}:role/other")
    unattested = {k: v for k, v in right.items() if k != 16}

    expect(True, "the right enclave", policy, role, "kms:Decrypt", right, bound)
    expect(False, "another image", policy, role, "kms:Decrypt", {**right, 0: "cd" * 48}, bound)
    for image, wanted in ((PCR0, True), ("ef" * 48, True), ("cd" * 48, False), ("0" * 96, False)):
        expect(wanted, f"image {image[:2]} during an exchange", exchange, role, "kms:Decrypt", {**right, 0: image}, bound)
    expect(False, "another instance during an exchange", exchange, role, "kms:Decrypt", {**right, 4: pcr(b"i-1")}, bound)
    expect(False, "another instance", policy, role, "kms:Decrypt", {**right, 4: pcr(b"i-1")}, bound)
    expect(False, "another config", policy, role, "kms:Decrypt", {**right, 16: other_pcr16}, bound)
    expect(False, "a config that is not measured yet", policy, role, "kms:Decrypt", unattested, bound)
    expect(False, "another context", policy, role, "kms:Decrypt", right, {"bound": other_hash})
    expect(False, "no context", policy, role, "kms:Decrypt", right, {})
    expect(False, "a debug enclave", policy, role, "kms:Decrypt", {**zeros, 16: pcr16}, bound)
    expect(False, "another role", policy, stranger, "kms:Decrypt", right, bound)
    expect(True, "a key made before there is a config", policy, role, "kms:GenerateDataKey", unattested, {})
    expect(False, "a key made in another image", policy, role, "kms:GenerateDataKey", {**right, 0: "cd" * 48}, {})
    expect(True, "sealing", policy, admin, "kms:Encrypt", None, bound)
    expect(False, "sealing by the role", policy, role, "kms:Encrypt", None, bound)
    expect(True, "a new policy", policy, admin, "kms:PutKeyPolicy", None, {})
    for who, name in ((role, "the role"), (admin, "the administrator"), (stranger, "a stranger")):
        for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:CreateGrant"):
            expect(False, f"{action} without an enclave by {name}", policy, who, action, None, bound)
            expect(False, f"{action} without an enclave by {name} (debug policy)", debug, who, action, None, bound)
    expect(False, "an attested administrator", policy, admin, "kms:Decrypt", right, bound)

    # Somebody allows everything later, by a grant or an IAM policy: the Deny still holds.
    everything = {"Sid": "Later", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    opened = {**policy, "Statement": policy["Statement"] + [everything]}
    expect(True, "an enclave after that", opened, stranger, "kms:Decrypt", {**right, 0: "cd" * 48}, {})
    expect(False, "plaintext after that", opened, stranger, "kms:Decrypt", None, bound)

    expect(True, "a debug enclave under the debug policy", debug, role, "kms:Decrypt", {**zeros, 16: pcr16}, bound)
    expect(False, "the image under the debug policy", debug, role, "kms:Decrypt", right, bound)

    for failure in failures:
        print(failure)
    print("failed" if failures else "passed")
    return 1 if failures else 0


sys.exit(main())
