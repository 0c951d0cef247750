"""Attestation documents and the envelopes KMS makes for them, written from AWS's description and apart from the C code.

Run with a file of base64 it prints, as JSON, what the document says; whether that is true is not asked.
"""

import base64
import json
import os
import sys
import time
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding as rsa_padding, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MAX_AGE_S = 300
ES384 = {1: -35}
QEMU_UNSIGNED = {1: -1}


class AttestationError(Exception):
    pass


def _require(condition, why):
    if not condition:
        raise AttestationError(why)


def _verify_chain(leaf, bundle, root, now):
    """root -> bundle[1:] -> leaf; what stands first in the bundle must be the root itself."""
    _require(bundle and bundle[0] == root, "the bundle does not begin with the pinned root")
    chain = [*bundle, leaf]
    for depth, cert in enumerate(chain):
        _require(cert.not_valid_before_utc.timestamp() - 5 <= now <= cert.not_valid_after_utc.timestamp(),
                 "a certificate is not valid now")
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value if depth < len(chain) - 1 \
            else None
        _require(constraints is None or constraints.ca, "an issuer is no certificate authority")
        if depth > 0:
            try:
                cert.verify_directly_issued_by(chain[depth - 1])
            except (InvalidSignature, ValueError, TypeError) as why:
                raise AttestationError("the chain of certificates is broken") from why


def _parse(document):
    """(message, header, fields) of a COSE_Sign1, tagged or not."""
    try:
        message = cbor2.loads(document)
        message = message.value if isinstance(message, cbor2.CBORTag) else message
        protected, _, payload, signature = message
        header, fields = cbor2.loads(protected), cbor2.loads(payload)
        return (protected, payload, signature), header, {**fields, "pcrs": dict(fields["pcrs"]),
                                                         "timestamp": fields["timestamp"] / 1000}
    except Exception as why:  # whatever a decoder throws at bad input
        raise AttestationError(f"not an attestation document: {why}") from why


def _verify_signature(message, header, fields, root, now):
    protected, payload, signature = message
    _require(header == ES384, "the signature algorithm is not ES384")
    _require(len(signature) == 96, "the signature is not 96 bytes")
    try:
        leaf = x509.load_der_x509_certificate(fields["certificate"])
        bundle = [x509.load_der_x509_certificate(c) for c in fields["cabundle"]]
    except (ValueError, TypeError, KeyError) as why:
        raise AttestationError("its certificates cannot be read") from why
    _verify_chain(leaf, bundle, root, now)
    der = utils.encode_dss_signature(int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big"))
    try:
        leaf.public_key().verify(der, cbor2.dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as why:
        raise AttestationError("the signature is wrong") from why


def _is_of_qemu(message, header, fields):
    """QEMU's machine says by its algorithm that nobody signed, and fills with zeros what would prove it. Nothing else
    is taken without a signature: a document that somebody took the signature from stays refused."""
    zeros = [fields.get("certificate"), *fields.get("cabundle", [])]
    return header == QEMU_UNSIGNED and message[2] == bytes(64) and all(z and not any(z) for z in zeros)


def verify(document, root, accept_unsigned=False):
    """The payload of a document that is authentic and fresh; root: the pinned certificate. accept_unsigned takes what
    QEMU's machine makes, which has neither chain nor signature; everything but these is checked all the same."""
    message, header, fields = _parse(document)
    now, pcrs, timestamp, public_key = time.time(), fields["pcrs"], fields["timestamp"], fields.get("public_key")
    if not (accept_unsigned and _is_of_qemu(message, header, fields)):
        _verify_signature(message, header, fields, root, now)
    _require(abs(now - timestamp) <= MAX_AGE_S, "the document is stale")
    _require(public_key, "the document has no public key")
    _require(all(isinstance(v, bytes) for v in pcrs.values()), "a PCR is not bytes")
    return fields


# ---- envelopes -------------------------------------------------------------------------------

def _tlv(tag, content, indefinite=False):
    if indefinite:
        return bytes([tag, 0x80]) + content + b"\0\0"
    n = len(content)
    if n < 0x80:
        return bytes([tag, n]) + content
    length = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _oid(hexadecimal):
    return bytes.fromhex(hexadecimal)


SHA256 = _oid("300d06096086480165030402010500")
ENVELOPED, DATA = _oid("06092a864886f70d010703"), _oid("06092a864886f70d010701")
OAEP, MGF1 = _oid("06092a864886f70d010107"), _oid("06092a864886f70d010108")
AES_256_CBC = _oid("060960864801650304012a")
FORMS = ("constructed", "split", "primitive", "der")


def envelope(secret, public_key_der, form):
    """CMS EnvelopedData as KMS sends it (constructed, primitive), and two neighbours: many pieces, definite lengths."""
    public_key = serialization.load_der_public_key(public_key_der)
    key, iv = os.urandom(32), os.urandom(16)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(secret) + padder.finalize()) + encryptor.finalize()
    sealed_key = public_key.encrypt(key, rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    ber = form != "der"
    algorithm = _tlv(0x30, OAEP + _tlv(0x30, _tlv(0xA0, SHA256) + _tlv(0xA1, _tlv(0x30, MGF1 + SHA256))))
    recipient = _tlv(0x30, _tlv(2, b"\2") + _tlv(0x80, os.urandom(32)) + algorithm + _tlv(4, sealed_key))
    if form in ("constructed", "split"):
        step = len(sealed) if form == "constructed" else 7
        pieces = b"".join(_tlv(4, sealed[i:i + step]) for i in range(0, len(sealed), step))
        content = _tlv(0xA0, pieces, indefinite=True)
    else:
        content = _tlv(0x80, sealed)
    encrypted = _tlv(0x30, DATA + _tlv(0x30, AES_256_CBC + _tlv(4, iv)) + content, ber)
    enveloped = _tlv(0x30, _tlv(2, b"\2") + _tlv(0x31, recipient) + encrypted, ber)
    return _tlv(0x30, ENVELOPED + _tlv(0xA0, enveloped, ber), ber)


def main():
    document = Path(sys.argv[1]).read_bytes()
    _, header, fields = _parse(base64.b64decode(document.split()[-1]))
    told = {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()
            if name not in ("pcrs", "cabundle", "certificate")}
    print(json.dumps({**told, "algorithm": header.get(1), "age": time.time() - fields["timestamp"],
                      "pcrs": {index: value.hex() for index, value in fields["pcrs"].items()}}))


if __name__ == "__main__":
    main()
