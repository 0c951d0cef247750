#!/usr/bin/env python3
"""Our KMS client against the front, with documents of the software NSM and, for IMDS, AWS's own metadata mock.

Usage: test_front.py TMKMS ATTESTED    (the programs; `meson test kms` gives them)

Exit code 77 when PyPI cannot be reached for the front (and says so). Prints one line a case in cmocka's form, which
tools/run_tests.py counts.
"""

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/kms"))
import key_policy  # needs no package

TMKMS, ATTESTED = (Path(a).resolve() for a in sys.argv[1:3])
ROLE = "arn:aws:iam::123456789012:role/enclave"
PCR0, OTHER_PCR = "11" * 48, "22" * 48
SKIPPED = 77
SECRET = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def tool(name):
    """Path that a tools/get-*.sh prints, or None when it says that it cannot be had here."""
    done = subprocess.run([ROOT / "tools" / name], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 77):
        raise RuntimeError(f"{name} failed")
    return done.stdout.strip() if done.returncode == 0 else None


class Skipped(Exception):
    pass


class Front:
    def __init__(self, python, folder, policy=None, *options):
        self.folder, self.policy, self.log = folder, folder / "policy.json", folder / "front.log"
        self.policy.write_text(json.dumps(policy if policy else {"Statement": [ADMIN]}))
        self.process = subprocess.Popen(
            [python, ROOT / "tests/kms/kms_front.py", "--dir", folder, "--nsm-root", folder / "nsm/root.pem", "--role", ROLE,
             "--policy", self.policy, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("ab"))
        self.ready = json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def ask(self, who="enclave", environment=None, **more):
        question = {"host": "localhost", "port": self.ready["port"], "region": self.ready["region"],
                    "root": Path(self.ready["root"]).read_text(), "key_id": self.ready["key_arn"], "op": "decrypt",
                    "credentials": self.ready["credentials"][who], **more}
        env = {**os.environ, "TMKMS_SIM_DIR": str(self.folder / "nsm"), "TMKMS_SIM_PCR0": PCR0, **(environment or {})}
        done = subprocess.run([ATTESTED], input=json.dumps(question), stdout=subprocess.PIPE, env=env, text=True, timeout=60)
        assert done.returncode == 0, f"{ATTESTED} ended with {done.returncode}"
        return json.loads(done.stdout)

    def seal(self, key_file, *options, who="admin"):
        c = self.ready["credentials"][who]
        env = {**os.environ, "AWS_ACCESS_KEY_ID": c["aws_key_id"], "AWS_SECRET_ACCESS_KEY": c["aws_secret_key"],
               "AWS_SESSION_TOKEN": c["aws_session_token"]}
        return subprocess.run(
            [TMKMS, "nitro", "seal", "--key-id", self.ready["key_arn"], "--endpoint", f"localhost:{self.ready['port']}",
             "--kms-root", self.ready["root"], *options, key_file], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, timeout=60)


ADMIN = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"}


def enclave_may(**conditions):
    lines = {"kms:RecipientAttestation:ImageSha384": PCR0, **conditions}
    return {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*",
            "Condition": {"StringEqualsIgnoreCase": lines}}


def expect_error(answer, *parts):
    assert not answer["ok"], "KMS did what it should have refused"
    for part in parts:
        assert part in answer["error"], f"'{part}' is not in: {answer['error']}"


# ---- cases: each gets the interpreter of the Python tools and an empty folder -----------------

def case_policy_rules(_, __):
    """The front's own judge: a table, so that a mistake in it does not pass for a property of our policy."""
    caller = {"arn": ROLE, "account": "123456789012", "is_admin": False}

    def judge(statements, context):
        return key_policy.allows({"Statement": statements}, caller, "kms:Decrypt", "key", context)
    allow = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Decrypt", "Resource": "*"}
    when = {**allow, "Condition": {"StringEqualsIgnoreCase": {"kms:A": ["AB", "cd"]}}}
    deny = {**allow, "Effect": "Deny", "Condition": {"StringNotEqualsIgnoreCase": {"kms:A": "ab"}}}
    table = [
        ([allow], {}, True), ([when], {}, False), ([when], {"kms:a": "ab"}, True), ([when], {"kms:a": "CD"}, True),
        ([when], {"kms:a": "abc"}, False), ([allow, deny], {}, False), ([allow, deny], {"kms:a": "AB"}, True),
        ([allow, deny], {"kms:a": "x"}, False), ([deny], {"kms:a": "ab"}, False),
        ([{**allow, "Action": "kms:Enc*"}], {}, False), ([{**allow, "Action": "kms:*"}], {}, True),
        ([{**allow, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}], {}, False),
        ([{**allow, "Principal": {"AWS": "arn:aws:iam::123456789012:role/x"}}], {}, False),
        ([{**allow, "Principal": "*"}], {}, True), ([{**allow, "Resource": "other"}], {}, False),
        ([{**allow, "Condition": {"Null": {"kms:A": "true"}}}], {}, True),
        ([{**allow, "Condition": {"Null": {"kms:A": "true"}}}], {"kms:a": "x"}, False),
        ([{**allow, "Condition": {"Null": {"kms:A": "false"}}}], {"kms:a": "x"}, True),
        ([{**allow, "Condition": {"StringEquals": {"kms:A": "AB"}}}], {"kms:a": "ab"}, False),
        ([{**allow, "Condition": {"StringEqualsIfExists": {"kms:A": "AB"}}}], {}, True),
        ([{**allow, "Condition": {"StringEqualsIfExists": {"kms:A": "AB"}}}], {"kms:a": "x"}, False),
    ]
    for statements, context, want in table:
        assert judge(statements, context) is want, (statements, context, want)
    for bad in ({**allow, "Effect": "allow"}, {**allow, "NotAction": "x"}, {**allow, "Condition": {"Bool": {"a": "b"}}},
                {k: v for k, v in allow.items() if k != "Principal"}):
        try:
            judge([bad], {})
        except key_policy.PolicyError:
            continue
        raise AssertionError(f"taken: {bad}")


def case_seal_and_unseal_in_every_form(python, folder):
    (folder / "key").write_bytes(SECRET)
    with Front(python, folder, {"Statement": [ADMIN, enclave_may(**{"kms:EncryptionContext:chain": "test-1"})]}) as front:
        sealed = front.seal(folder / "key", "--context", "chain=test-1")
        assert sealed.returncode == 0, sealed.stderr
        for _ in range(4):  # the front takes the four forms of envelopes in turn
            answer = front.ask(ciphertext=sealed.stdout.strip(), context={"chain": "test-1"})
            assert answer["ok"], answer
            assert base64.b64decode(answer["plaintext"]) == SECRET
        expect_error(front.ask(ciphertext=sealed.stdout.strip(), context={"chain": "test-2"}), "AccessDeniedException")
        expect_error(front.ask(ciphertext=sealed.stdout.strip()), "AccessDeniedException")
        swapped = base64.b64encode(b"x" + base64.b64decode(sealed.stdout)).decode()
        expect_error(front.ask(ciphertext=swapped, context={"chain": "test-1"}), "Exception")


def case_a_key_born_in_kms(python, folder):
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}) as front:
        born = front.ask(op="keygen")
        assert born["ok"], born
        again = front.ask(ciphertext=born["ciphertext"])
        assert again["ok"] and again["plaintext"] == born["plaintext"] and len(base64.b64decode(born["plaintext"])) == 32


def case_only_the_right_enclave(python, folder):
    """Another image, role, instance, config, a debug enclave, no enclave at all."""
    config = "33" * 48
    role_pcr = hashlib.sha384(bytes(48) + ROLE.encode()).hexdigest()
    instance_pcr = hashlib.sha384(bytes(48) + b"i-0123456789abcdef0").hexdigest()
    pcr16 = hashlib.sha384(bytes(48) + bytes.fromhex(config)).hexdigest()
    conditions = {"kms:RecipientAttestation:PCR3": role_pcr, "kms:RecipientAttestation:PCR4": instance_pcr.upper(),
                  "kms:RecipientAttestation:PCR16": pcr16}
    right = {"TMKMS_SIM_ROLE": ROLE, "TMKMS_SIM_INSTANCE": "i-0123456789abcdef0"}
    with Front(python, folder, {"Statement": [ADMIN, enclave_may(**conditions)]}) as front:
        (folder / "key").write_bytes(SECRET)
        blob = front.seal(folder / "key").stdout.strip()
        assert front.ask(ciphertext=blob, environment=right, pcr16=config)["ok"]
        wrong = [({**right, "TMKMS_SIM_PCR0": OTHER_PCR}, config), ({**right, "TMKMS_SIM_ROLE": ROLE + "x"}, config),
                 ({**right, "TMKMS_SIM_INSTANCE": "i-0fffffffffffffff0"}, config),
                 ({**right, "TMKMS_SIM_DEBUG": "1"}, config), (right, "44" * 48), (right, "")]
        for environment, pcr in wrong:
            expect_error(front.ask(ciphertext=blob, environment=environment, pcr16=pcr), "AccessDeniedException")
        expect_error(front.ask("other", ciphertext=blob, environment=right, pcr16=config), "AccessDeniedException")
        direct = front.seal(folder / "key", who="enclave")
        assert direct.returncode == 1 and "kms:Encrypt" in direct.stderr, direct.stderr


def case_documents_that_do_not_pass(python, folder):
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}, "--refuse-replays") as front:
        (folder / "key").write_bytes(SECRET)
        blob = front.seal(folder / "key").stdout.strip()
        first = front.ask(ciphertext=blob)
        assert first["ok"], first
        document = first["document"]
        expect_error(front.ask(ciphertext=blob, document=document), "ValidationException", "used before")
        broken = bytearray(base64.b64decode(document))
        broken[-1] ^= 1
        expect_error(front.ask(ciphertext=blob, document=base64.b64encode(broken).decode()), "signature is wrong")
        expect_error(front.ask(ciphertext=blob, document=base64.b64encode(b"nonsense").decode()), "not an attestation")
        stale = {"TMKMS_SIM_CLOCK_OFFSET_MS": "-600000"}
        expect_error(front.ask(ciphertext=blob, environment=stale), "ValidationException")
        foreign = {"TMKMS_SIM_DIR": ""}
        expect_error(front.ask(ciphertext=blob, environment=foreign), "root")


# A document of the software NSM in the form of QEMU's machine, and spoilt in one place: algorithm, signature,
# certificate, age, public key.
UNSIGN = """
import base64, cbor2, sys
spoil = sys.argv[2]
message = cbor2.loads(base64.b64decode(sys.argv[1]))
fields = cbor2.loads(getattr(message, "value", message)[2])
fields.update(certificate=bytes(64), cabundle=[bytes(64)])
fields["timestamp"] = fields["timestamp"] // 1000 * 1000 - (600000 if spoil == "age" else 0)
if spoil == "certificate":
    fields["cabundle"] = [b"\\1" + bytes(63)]
if spoil == "public key":
    fields["public_key"] = None
header = {1: -35 if spoil == "algorithm" else -1}
signature = bytes(63) + b"\\1" if spoil == "signature" else bytes(64)
document = cbor2.dumps([cbor2.dumps(header), {}, cbor2.dumps(fields), signature])
print(base64.b64encode(document).decode())
"""


def case_documents_that_nobody_signed(python, folder):
    """QEMU's machine signs nothing: only under the flag that says so, and held against the policy all the same."""
    def unsign(document, spoil=""):
        return subprocess.run([python, "-c", UNSIGN, document, spoil], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    (folder / "key").write_bytes(SECRET)
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}) as front:
        blob = front.seal(folder / "key").stdout.strip()
        signed = front.ask(ciphertext=blob)["document"]
        document = unsign(signed)
        expect_error(front.ask(ciphertext=blob, document=document), "ValidationException", "not ES384")
    (folder / "document").write_text(document)
    for flags in ([], ["--root", folder / "nsm/root.pem", "--pcr0", PCR0], ["--at-document-time"]):
        told = subprocess.run([TMKMS, "nitro", "verify", *flags, folder / "document"], capture_output=True, text=True)
        assert told.returncode == 1 and "QEMU" in told.stderr and "prove nothing" in told.stderr, told
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}, "--accept-unsigned") as front:
        blob = front.seal(folder / "key").stdout.strip()
        # Taken: the answer is for the document's own key, which ended with the process that made it.
        expect_error(front.ask(ciphertext=blob, document=document), "not for this recipient")
        assert front.ask(ciphertext=blob)["ok"]  # what is signed is still checked as before
        for spoil, word in (("algorithm", "not 96 bytes"), ("signature", "not ES384"), ("certificate", "not ES384"),
                            ("age", "stale"), ("public key", "no public key")):
            expect_error(front.ask(ciphertext=blob, document=unsign(signed, spoil)), "ValidationException", word)
        front.policy.write_text(json.dumps({"Statement": [ADMIN, {**enclave_may(), "Condition": {
            "StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": OTHER_PCR}}}]}))
        expect_error(front.ask(ciphertext=blob, document=document), "AccessDeniedException")
    said = front.log.read_text()
    assert "NOBODY SIGNED" in said, said


def case_a_replayed_document_opens_for_nobody_else(python, folder):
    """KMS itself takes a document again for a few minutes; the envelope is still for the first enclave's key."""
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}) as front:
        (folder / "key").write_bytes(SECRET)
        blob = front.seal(folder / "key").stdout.strip()
        first = front.ask(ciphertext=blob)
        expect_error(front.ask(ciphertext=blob, document=first["document"]), "not for this recipient")


def case_an_answer_in_clear_is_refused(python, folder):
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}, "--answer-plaintext") as front:
        (folder / "key").write_bytes(SECRET)
        blob = front.seal(folder / "key").stdout.strip()
        expect_error(front.ask(ciphertext=blob), "plaintext itself")


def case_throttling_passes_and_old_credentials_do_not(python, folder):
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}, "--throttle-first", "2", "--expire-in", "8") as front:
        (folder / "key").write_bytes(SECRET)
        sealed = front.seal(folder / "key")
        assert sealed.returncode == 0, sealed.stderr
        expiry = time.monotonic() + 8
        wrong = {**front.ready["credentials"]["enclave"], "aws_secret_key": "wrong"}
        expect_error(front.ask(ciphertext=sealed.stdout.strip(), credentials=wrong), "InvalidSignatureException")
        time.sleep(max(0, expiry - time.monotonic()))
        expect_error(front.ask(ciphertext=sealed.stdout.strip()), "ExpiredTokenException", "push")


def aws_kms(python, front, who, *arguments):
    c = front.ready["credentials"][who]
    env = {**os.environ, "AWS_ACCESS_KEY_ID": c["aws_key_id"], "AWS_SECRET_ACCESS_KEY": c["aws_secret_key"],
           "AWS_SESSION_TOKEN": c["aws_session_token"]}
    if not c["aws_session_token"]:
        env.pop("AWS_SESSION_TOKEN")
    return subprocess.run(
        [python, Path(python).parent / "aws", "kms", *arguments, "--region", front.ready["region"], "--endpoint-url",
         f"https://localhost:{front.ready['port']}", "--ca-bundle", front.ready["root"], "--output", "text"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def case_the_aws_cli_seals_the_same(python, folder):
    with Front(python, folder, {"Statement": [ADMIN, enclave_may()]}) as front:
        (folder / "key").write_bytes(SECRET)
        sealed = aws_kms(python, front, "admin", "encrypt", "--key-id", front.ready["key_arn"], "--plaintext",
                         f"fileb://{folder}/key", "--query", "CiphertextBlob")
        assert sealed.returncode == 0, sealed.stderr
        answer = front.ask(ciphertext=sealed.stdout.strip())
        assert answer["ok"] and base64.b64decode(answer["plaintext"]) == SECRET, answer


def case_keys_and_policies_are_the_administrators(python, folder):
    with Front(python, folder, {"Statement": [ADMIN]}) as front:
        made = aws_kms(python, front, "admin", "create-key", "--query", "KeyMetadata.Arn")
        assert made.returncode == 0 and ":key/" in made.stdout, made
        assert made.stdout.strip() != front.ready["key_arn"], made.stdout
        opened = json.dumps({"Statement": [ADMIN, enclave_may()]})
        put = ["put-key-policy", "--key-id", made.stdout.strip(), "--policy-name", "default", "--policy"]
        for who, policy, error in (("enclave", opened, "AccessDenied"), ("admin", "{}", "MalformedPolicyDocument"),
                                   ("admin", "no JSON", "MalformedPolicyDocument")):
            done = aws_kms(python, front, who, *put, policy)
            assert done.returncode != 0 and error in done.stderr, done
        assert aws_kms(python, front, "enclave", "create-key").returncode != 0
        assert json.loads(front.policy.read_text()) == {"Statement": [ADMIN]}
        done = aws_kms(python, front, "admin", *put, opened)
        assert done.returncode == 0 and front.policy.read_text() == opened, done


class Metadata:
    """AWS's mock of the instance metadata service, version 2 only."""

    def __init__(self, binary, folder, credentials, expires):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = folder / "metadata.json"
        config.write_text(json.dumps({"metadata": {"values": {
            "iam-security-credentials-role": "signer-role", "placement-region": "eu-west-1",
            "iam-security-credentials": {
                "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC", "Expiration": expires,
                "AccessKeyId": credentials["aws_key_id"], "SecretAccessKey": credentials["aws_secret_key"],
                "Token": credentials["aws_session_token"]}}}}))
        self.process = subprocess.Popen([binary, "-n", "127.0.0.1", "-p", str(port), "--imdsv2", "-c", config],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}", "HOME": str(folder)}
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("ec2-metadata-mock does not listen")

    def __enter__(self):
        return self.environment

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def case_credentials_and_region_of_the_instance(python, folder):
    """The key is named by its id alone: the region, too, comes from the metadata service."""
    binary = tool("get-imds-mock.sh")
    if binary is None:
        raise Skipped("ec2-metadata-mock cannot be built here (no Go)")
    encrypt = {**enclave_may(), "Action": "kms:Encrypt", "Condition": {}}
    with Front(python, folder, {"Statement": [ADMIN, encrypt]}) as front:
        (folder / "key").write_bytes(SECRET)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}

        def seal(environment):
            return subprocess.run(
                [TMKMS, "nitro", "seal", "--key-id", front.ready["key_arn"].rsplit("/")[-1], "--endpoint",
                 f"localhost:{front.ready['port']}", "--kms-root", front.ready["root"], folder / "key"],
                env={**clean, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        credentials = front.ready["credentials"]
        with Metadata(binary, folder, credentials["enclave"], "2099-01-01T00:00:00Z") as environment:
            done = seal(environment)
            assert done.returncode == 0, done.stderr
        with Metadata(binary, folder, credentials["other"], "2099-01-01T00:00:00Z") as environment:
            done = seal(environment)  # the role's credentials were replaced by another's
            assert done.returncode == 1 and "role/other" in done.stderr, done.stderr
        with Metadata(binary, folder, credentials["enclave"], "2020-01-01T00:00:00Z") as environment:
            done = seal(environment)
            assert done.returncode == 1 and "expired at 2020" in done.stderr, done.stderr
        done = seal(environment)
        assert done.returncode == 1 and "metadata service cannot be reached" in done.stderr, done.stderr


def main():
    python = tool("get-python-tools.sh")
    if python is None:
        print("skipped: the KMS front needs Python packages from PyPI, which cannot be reached")
        return SKIPPED
    failed = 0
    for name, case in [(n, c) for n, c in globals().items() if n.startswith("case_")]:
        with tempfile.TemporaryDirectory(prefix="tmkms-kms-") as folder:
            folder = Path(folder)
            (folder / "nsm").mkdir()
            # The software NSM makes its root when it is first asked.
            subprocess.run([ATTESTED], input='{"key_id":""}', stdout=subprocess.DEVNULL, text=True,
                           env={**os.environ, "TMKMS_SIM_DIR": str(folder / "nsm")})
            try:
                case(python, folder)
                print(f"[       OK ] {name}", flush=True)
            except Skipped as why:
                print(f"[  SKIPPED ] {name}\n{why}", flush=True)
            except Exception:
                traceback.print_exc()
                print(f"[  FAILED  ] {name}", flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
