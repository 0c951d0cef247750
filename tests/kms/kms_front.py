#!/usr/bin/env python3
"""A KMS for tests: it speaks TLS, checks what AWS checks (signature of the request, attestation document, key policy),
lets moto do the cryptography, and answers attested calls with an envelope for the document's key.

Run with the interpreter that tools/get-python-tools.sh prints. It writes root.pem (the root of its certificate) into
--dir, makes one symmetric key in moto, and prints one line of JSON when it is ready:

  {"port": N, "host": "localhost", "root": PATH, "key_arn": ARN, "region": R,
   "credentials": {"enclave": {...}, "other": {...}, "admin": {...}}}

`enclave` are the session credentials of --role, `other` those of another role of the account, `admin` belongs to a user
whom IAM gives everything (so a statement for the account's root means that user). The policy file is read again for each
request. Without --policy only `admin` may do anything, and any attested call is refused.
"""

import argparse
import base64
import datetime
import hashlib
import hmac
import itertools
import json
import os
import secrets
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.update(AWS_ACCESS_KEY_ID="moto", AWS_SECRET_ACCESS_KEY="moto", AWS_EC2_METADATA_DISABLED="true")

import attestation
import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import key_policy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto import mock_aws

SKEW_S = 300
METHODS = {"Encrypt": "encrypt", "Decrypt": "decrypt", "GenerateDataKey": "generate_data_key",
           "GenerateRandom": "generate_random", "DescribeKey": "describe_key", "CreateKey": "create_key",
           "PutKeyPolicy": "put_key_policy"}
ATTESTED = {"Decrypt", "GenerateDataKey", "GenerateRandom"}
BLOBS = {"CiphertextBlob", "Plaintext"}
ADMIN_POLICY = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*",
                               "Condition": {"StringEquals": {"aws:PrincipalType": "User"}}}]}


class KmsError(Exception):
    def __init__(self, kind, text, status=400):
        super().__init__(text)
        self.kind, self.text, self.status = kind, text, status


# ---- who calls -------------------------------------------------------------------------------

def make_callers(options):
    expires = time.time() + options.expire_in

    def session(arn):
        return {"arn": arn, "account": options.account, "is_admin": False, "expires": expires,
                "key_id": "ASIA" + secrets.token_hex(8).upper(), "secret": secrets.token_urlsafe(30),
                "token": base64.b64encode(secrets.token_bytes(300)).decode()}
    admin = {"arn": f"arn:aws:iam::{options.account}:user/admin", "account": options.account, "is_admin": True,
             "expires": None, "key_id": "AKIA" + secrets.token_hex(8).upper(), "secret": secrets.token_urlsafe(30),
             "token": None}
    return {"enclave": session(options.role), "other": session(f"arn:aws:iam::{options.account}:role/other"),
            "admin": admin}


def printed(caller):
    return {"aws_key_id": caller["key_id"], "aws_secret_key": caller["secret"],
            "aws_session_token": caller["token"] or ""}


class SigV4(botocore.auth.SigV4Auth):
    """Recomputes a signature over what was received instead of making a new one."""

    def expected(self, request):
        return self.signature(self.string_to_sign(request, self.canonical_request(request)), request)

    def headers_to_sign(self, request):
        return request.headers


def parse_authorization(text):
    scheme, _, rest = (text or "").partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    if scheme != "AWS4-HMAC-SHA256" or {"Credential", "SignedHeaders", "Signature"} - set(fields):
        raise KmsError("IncompleteSignatureException", "the Authorization header is not one of Signature Version 4")
    return fields


def authenticate(front, handler, body):
    """The caller who signed this request."""
    if "Authorization" not in handler.headers:
        raise KmsError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
    fields = parse_authorization(handler.headers["Authorization"])
    key_id, day, region, service, end = (fields["Credential"].split("/") + [""] * 5)[:5]
    caller = next((c for c in front.callers.values() if c["key_id"] == key_id), None)
    if caller is None or handler.headers.get("X-Amz-Security-Token") != caller["token"]:
        raise KmsError("UnrecognizedClientException", "The security token included in the request is invalid.")
    names = fields["SignedHeaders"].split(";")
    needed = {"host", "x-amz-date", "x-amz-target", "content-type"} | ({"x-amz-security-token"} if caller["token"] else set())
    date = handler.headers.get("X-Amz-Date", "")
    if (region, service, end) != (front.options.region, "kms", "aws4_request") or date[:8] != day:
        raise KmsError("InvalidSignatureException", "Credential should be scoped to another date, region or service")
    if needed - set(names) or names != sorted(names):
        raise KmsError("InvalidSignatureException", f"these headers must be signed: {sorted(needed)}")
    request = botocore.awsrequest.AWSRequest(
        method="POST", url=f"https://{handler.headers['Host']}/", data=body,
        headers={name: handler.headers[name] for name in names})
    request.context["timestamp"] = date
    signer = SigV4(botocore.credentials.Credentials(key_id, caller["secret"], caller["token"]), "kms", region)
    if not hmac.compare_digest(signer.expected(request), fields["Signature"]):
        raise KmsError("InvalidSignatureException", "The request signature we calculated does not match the signature "
                       "you provided. Check your AWS Secret Access Key and signing method.")
    try:
        stamp = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError:
        stamp = 0
    if abs(time.time() - stamp) > SKEW_S:
        raise KmsError("InvalidSignatureException", f"Signature expired: {date}")
    if caller["expires"] is not None and time.time() >= caller["expires"]:
        raise KmsError("ExpiredTokenException", "The security token included in the request is expired")
    return caller


# ---- what is asked ---------------------------------------------------------------------------

def attested_fields(front, request):
    """The payload of the attestation document, or None when the call has no Recipient."""
    recipient = request.pop("Recipient", None)
    if recipient is None:
        return None, None
    if recipient.get("KeyEncryptionAlgorithm") != "RSAES_OAEP_SHA_256":
        raise KmsError("ValidationException", "KeyEncryptionAlgorithm is not RSAES_OAEP_SHA_256")
    document = base64.b64decode(recipient.get("AttestationDocument", ""))
    try:
        fields = attestation.verify(document, front.nsm_root, front.options.accept_unsigned)
    except attestation.AttestationError as why:
        raise KmsError("ValidationException", f"Failed to verify the attestation document: {why}") from why
    digest = hashlib.sha256(document).digest()
    if front.options.refuse_replays and digest in front.seen:
        raise KmsError("ValidationException", "this attestation document was used before")
    return fields, digest


def policy_context(caller, request, fields):
    context = {"aws:principalarn": caller["arn"], "kms:calleraccount": caller["account"],
               "aws:principaltype": "User" if caller["is_admin"] else "AssumedRole"}
    for name, value in request.get("EncryptionContext", {}).items():
        context[f"kms:encryptioncontext:{name}".lower()] = value
    if request.get("EncryptionAlgorithm"):
        context["kms:encryptionalgorithm"] = request["EncryptionAlgorithm"]
    if fields is not None:
        for index, value in fields["pcrs"].items():
            context[f"kms:recipientattestation:pcr{index}"] = value.hex()
        context["kms:recipientattestation:imagesha384"] = fields["pcrs"][0].hex()
    return context


def authorize(front, caller, operation, request, fields):
    has_policy = front.options.policy and operation != "CreateKey"  # what is not there yet has none
    policy = json.loads(front.options.policy.read_text()) if has_policy else ADMIN_POLICY
    if not key_policy.allows(policy, caller, f"kms:{operation}", front.key_arn, policy_context(caller, request, fields)):
        raise KmsError("AccessDeniedException", f"User: {caller['arn']} is not authorized to perform: kms:{operation} on "
                       f"resource: {front.key_arn} because no resource-based policy allows the kms:{operation} action")


def forward(front, operation, request):
    for name in BLOBS & set(request):
        request[name] = base64.b64decode(request[name])
    try:
        answer = getattr(front.moto, METHODS[operation])(**request)
    except botocore.exceptions.ClientError as why:
        error = why.response["Error"]
        raise KmsError(error["Code"], error["Message"]) from why
    except botocore.exceptions.ParamValidationError as why:
        raise KmsError("ValidationException", str(why)) from why
    answer.pop("ResponseMetadata", None)
    return answer


def remember(front, operation, request, answer):
    """The policy file is the policy of every key here; the newest key is the one that refusals name."""
    if operation == "CreateKey":
        front.key_arn = answer["KeyMetadata"]["Arn"]
    elif operation == "PutKeyPolicy":
        front.options.policy.write_text(request["Policy"])


def check_policy(front, request):
    if front.options.policy is None:
        raise KmsError("UnsupportedOperationException", "this KMS was started without --policy")
    try:
        key_policy.check(json.loads(request.get("Policy", "")))
    except (ValueError, AttributeError, key_policy.PolicyError) as why:
        raise KmsError("MalformedPolicyDocumentException", str(why)) from why


def handle(front, operation, caller, request):
    if operation not in METHODS:
        raise KmsError("UnknownOperationException", operation)
    if "Recipient" in request and operation not in ATTESTED:
        raise KmsError("ValidationException", f"{operation} takes no Recipient")
    fields, digest = attested_fields(front, request)
    authorize(front, caller, operation, request, fields)
    if operation == "PutKeyPolicy":
        check_policy(front, request)
    answer = forward(front, operation, request)
    remember(front, operation, request, answer)
    if fields is not None and not front.options.answer_plaintext:
        form = front.options.cms_form or next(front.forms)
        answer["CiphertextForRecipient"] = attestation.envelope(answer.pop("Plaintext"), fields["public_key"], form)
        front.seen.add(digest)
    return answer


# ---- HTTP ------------------------------------------------------------------------------------

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        front, operation = self.server.front, self.headers.get("X-Amz-Target", "").removeprefix("TrentService.")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if next(front.count) < front.options.throttle_first:
                raise KmsError("ThrottlingException", "Rate exceeded")
            caller = authenticate(front, self, body)
            status, answer = 200, handle(front, operation, caller, json.loads(body))
            print(f"{operation} by {caller['arn']}: done", file=sys.stderr, flush=True)
        except KmsError as why:
            # AWS spells the member in two ways.
            member = "Message" if why.kind == "AccessDeniedException" else "message"
            status, answer = why.status, {"__type": why.kind, member: why.text}
            print(f"{operation}: {why.kind}: {why.text}", file=sys.stderr, flush=True)
        except Exception as why:  # a defect of this program must not look like an answer of KMS
            status, answer = 500, {"__type": "InternalFailure", "message": repr(why)}
            print(f"{operation}: {why!r}", file=sys.stderr, flush=True)
        text = json.dumps(answer, default=lambda v: base64.b64encode(v).decode() if isinstance(v, bytes) else str(v))
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that does not trust us, or that was killed: one line instead of a traceback."""
        print(f"connection: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)


class Front:
    def __init__(self, options):
        self.options, self.callers, self.seen, self.count = options, make_callers(options), set(), itertools.count()
        self.forms = itertools.cycle(attestation.FORMS)
        self.nsm_root = x509.load_pem_x509_certificate(options.nsm_root.read_bytes()) if options.nsm_root else None
        mock_aws().start()
        self.moto = boto3.client("kms", region_name=options.region)
        self.key_arn = self.moto.create_key()["KeyMetadata"]["Arn"]


def make_certificate(folder, region):
    """A root and a leaf for the names under which KMS is asked for. Returns the leaf's file; root.pem is for clients."""
    now = datetime.datetime.now(datetime.timezone.utc)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject, public_key, ca):
        builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("KMS test root"))
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
                   .add_extension(x509.BasicConstraints(ca, None), critical=True))
        if not ca:
            hosts = ["localhost", f"kms.{region}.amazonaws.com"]
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        else:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            builder = builder.add_extension(x509.KeyUsage(*[n in (5, 6) for n in range(9)]), critical=True)
        return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "root.pem").write_bytes(certificate("KMS test root", root_key.public_key(), True))
    leaf = folder / "leaf.pem"
    leaf.write_bytes(certificate("localhost", key.public_key(), False) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return leaf


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", type=Path, required=True, help="where root.pem and leaf.pem are written")
    parser.add_argument("--nsm-root", type=Path, help="PEM of the root that attestation documents must chain to")
    parser.add_argument("--policy", type=Path, help="the key policy; read again for each request")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--account", default="123456789012")
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--role", default="arn:aws:iam::123456789012:role/enclave", help="ARN of the enclave's role")
    parser.add_argument("--expire-in", type=float, default=3600, help="seconds that session credentials last")
    parser.add_argument("--cms-form", choices=attestation.FORMS, help="of the envelopes; default: each in turn")
    parser.add_argument("--refuse-replays", action="store_true", help="take each attestation document once")
    parser.add_argument("--throttle-first", type=int, default=0, help="answer that many requests with ThrottlingException")
    parser.add_argument("--answer-plaintext", action="store_true", help="ignore Recipient, as other emulators do")
    parser.add_argument("--accept-unsigned", action="store_true", help="take QEMU's documents, which nobody signed")
    options = parser.parse_args()
    os.environ.update(AWS_DEFAULT_REGION=options.region, MOTO_ACCOUNT_ID=options.account)
    front = Front(options)
    if options.accept_unsigned:
        print("WARNING: --accept-unsigned: documents of QEMU's machine are taken, and NOBODY SIGNED THEM. Anybody can "
              "write one. What they say is still held against the key policy.", file=sys.stderr, flush=True)
    elif options.nsm_root is None:
        print("no --nsm-root: every attested call will be refused", file=sys.stderr)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(make_certificate(options.dir, options.region))
    server = Server(("127.0.0.1", options.port), Handler)
    server.front = front
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(json.dumps({"port": server.server_address[1], "host": "localhost", "root": str(options.dir / "root.pem"),
                      "key_arn": front.key_arn, "region": options.region,
                      "credentials": {name: printed(c) for name, c in front.callers.items()}}), flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    server.serve_forever()


def end_with_parent():
    """A test that was killed leaves no server behind: its end of our standard input is closed."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
