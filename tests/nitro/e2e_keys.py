"""Who gets the key out of KMS, and keys that are made in the enclave."""

import base64
import re
import subprocess

from e2e_node import Asker
from e2e_rig import (CHAIN, INSTANCE, PCR0, Failure, Rig, chains, sealed_rig)
from chain import Key, run

OTHER_PCR0, OTHER_INSTANCE = "5a" * 48, "i-0fedcba9876543210"
SIGN_SECONDS = 10


def enclave_is(rig, **environment):
    """Another enclave takes the place of the one before."""
    rig.enclave.kill_group()
    rig.enclave.env = {**rig.enclave.env, "TMKMS_SIM_PCR0": PCR0, "TMKMS_SIM_INSTANCE": INSTANCE,
                       "TMKMS_SIM_DEBUG": "", "TMKMS_SIM_CLOCK_OFFSET_MS": "0", **environment}
    rig.start_enclave()


def ask_kms(rig, *arguments, who="enclave"):
    """What root on the parent can do with the AWS CLI and the credentials of the role. Returns what KMS says."""
    return refused(rig, [rig.aws, "kms", *arguments, "--endpoint-url", f"https://{rig.endpoint()}"], who)


def refused(rig, argv, who="enclave"):
    done = subprocess.run([str(a) for a in argv], env={**rig.kms.env, **rig.aws_env(who)}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        raise Failure(f"`{' '.join(map(str, argv[:4]))}` got through: {done.stdout}")
    return done.stderr


def policy(workspace):
    """The policy that `kms-policy` prints is what the KMS enforces: this image, instance and configuration."""
    rig = Rig(workspace).start()
    key = Key(rig.folder / "signing.key")
    sealed = rig.seal(key.path)
    rig.write_config(sealed, key.public.hex())
    rig.init_state(key)
    rig.start_parent()
    rig.set_policy("--pcr0", PCR0, "--instance", INSTANCE, "--config", rig.config)
    rig.push().must_be_ready()

    refusal = ("AccessDeniedException", "not authorized to perform: kms:Decrypt")
    wrong = {"image": {"TMKMS_SIM_PCR0": OTHER_PCR0}, "instance": {"TMKMS_SIM_INSTANCE": OTHER_INSTANCE},
             "debug mode": {"TMKMS_SIM_DEBUG": "1"}}
    for environment in wrong.values():
        enclave_is(rig, **environment)
        rig.push().must_say(*refusal)
        rig.push().must_say(*refusal)  # the enclave still listens, and is as far as before
    enclave_is(rig, TMKMS_SIM_CLOCK_OFFSET_MS="-600000")
    rig.push().must_say("InvalidSignatureException", "Signature expired")

    other = rig.folder / "other.toml"
    enclave_is(rig)
    rig.write_config(sealed, key.public.hex(), chain_lines=["min_height = 7"], path=other)
    rig.push(other).must_say(*refusal)
    rig.push().must_say("restart the enclave")  # PCR16 is locked: this enclave is spoilt for the right config
    enclave_is(rig)
    rig.write_config(sealed, key.public.hex(), who="other", path=other)
    rig.push(other).must_say(*refusal)
    rig.push().must_be_ready()  # the credentials are not measured
    return f"1 enclave let in, {len(wrong) + 3} kept out; {direct_calls(rig, sealed)} direct calls of the parent refused"


def direct_calls(rig, sealed):
    """The parent has the role, the ciphertext and any document that it asks the enclave for: not the key."""
    blob = rig.folder / "blob"
    blob.write_bytes(base64.b64decode(sealed))
    document = run([chains.BINARY, "nitro", "attest", "--vsock-uds", rig.uds]).split()[-1]
    # The AWS CLI cannot pass bytes inside of a structure.
    recipient = "boto3.client('kms', endpoint_url=sys.argv[1]).decrypt(CiphertextBlob=open(sys.argv[2], 'rb').read(), " \
        "Recipient={'KeyEncryptionAlgorithm': 'RSAES_OAEP_SHA_256', 'AttestationDocument': base64.b64decode(sys.argv[3])})"
    plain = ask_kms(rig, "decrypt", "--ciphertext-blob", f"fileb://{blob}")
    admin = ask_kms(rig, "decrypt", "--ciphertext-blob", f"fileb://{blob}", who="admin")
    replay = refused(rig, [rig.aws.with_name("python"), "-c", f"import base64, boto3, sys; {recipient}",
                           f"https://{rig.endpoint()}", blob, document])
    encrypt = ask_kms(rig, "encrypt", "--key-id", rig.kms.about["key_arn"], "--plaintext", "c3R1ZmY=")
    for said, word in ((plain, "AccessDenied"), (admin, "AccessDenied"), (replay, "no public key"), (encrypt, "AccessDenied")):
        if word not in said:
            raise Failure(f"KMS says {said!r} instead of {word}")
    return 4


def bound_to_config(workspace):
    """A key sealed with the measured hash in its encryption context opens under that configuration alone."""
    rig = Rig(workspace).start()
    key, right = Key(rig.folder / "signing.key"), rig.config
    context = ['encryption_context = { config = "@measured_config" }']
    rig.write_config("AAAA", key.public.hex(), key_lines=context)
    measured = run([chains.BINARY, "nitro", "measure-config", right]).split("\n")[0].split()[-1]
    sealed = rig.seal(key.path, [("config", measured)])
    rig.write_config(sealed, key.public.hex(), key_lines=context)
    rig.init_state(key)
    rig.start_parent()
    other = rig.folder / "other.toml"
    rig.write_config(sealed, key.public.hex(), chain_lines=["max_height_jump = 1000000"], key_lines=context, path=other)
    rig.push(other).must_say("InvalidCiphertextException")
    rig.restart_enclave()
    pushed = rig.push(right).must_be_ready()
    if measured not in pushed.out:
        raise Failure(f"measure-config prints {measured}, the enclave {pushed.out}")
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    return f"{node.finish().count} signatures; another config: InvalidCiphertextException"


def keygen(workspace):
    """GenerateDataKey for the enclave, a document that binds it, and the key signs."""
    rig = Rig(workspace).start()
    rig.write_config("AAAA")  # for the credentials alone
    output, document = rig.folder / "consensus.b64", rig.folder / "consensus.b64.attestation.b64"
    argv = [chains.BINARY, "nitro", "keygen", "--key-id", rig.kms.about["key_arn"], "--endpoint", rig.endpoint(),
            "--kms-root", rig.kms.about["root"], "--pcr0", PCR0, "--root", rig.nsm_dir / "root.pem", "--vsock-uds", rig.uds,
            "-o", output]
    words = run(argv, 60, rig.aws_env("enclave"))
    before = output.read_bytes(), document.read_bytes()
    for other in ([], ["--pcr0", OTHER_PCR0]):
        try:
            run([*argv, *other], 60, rig.aws_env("enclave"))
            raise Failure("keygen overwrote a key")
        except Failure as why:
            if "ended with" not in str(why):
                raise
    if (output.read_bytes(), document.read_bytes()) != before:
        raise Failure("a second keygen changed the files of the first")
    fresh = [rig.folder / "second.b64" if a is output else a for a in argv]
    fresh[fresh.index(PCR0)] = OTHER_PCR0
    try:
        run(fresh, 60, rig.aws_env("enclave"))
        raise Failure("keygen took a document of another image")
    except Failure as why:
        if "PCR0" not in str(why) or (rig.folder / "second.b64").exists():
            raise

    verify = [chains.BINARY, "nitro", "verify", "--root", rig.nsm_dir / "root.pem", "--pcr0", PCR0, document]
    run(verify)
    run([*verify, "--at-document-time"])
    sealed = output.read_text().strip()
    public = re.search(r'^public_key = "([0-9a-f]{64})"$', words, re.M)[1]
    rig.write_config(sealed, public, key_lines=[f'kms_key_id = "{rig.kms.about["key_arn"]}"'])
    run([chains.BINARY, "state", "init", "--state-file", rig.state_file, "--chain", CHAIN, "--pubkey", public])
    rig.start_parent()
    if public.upper() not in rig.push().must_be_ready().out:
        raise Failure("the enclave has another key than keygen printed")
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    # Sealed for good: another enclave of the image opens it again.
    rig.restart_enclave()
    rig.push().must_be_ready()
    node.wait_more(SIGN_SECONDS, 3)
    return f"{node.finish().count} signatures by a key that no file ever held"


def credentials_again(workspace):
    """Pushed again: credentials and log level change while the enclave signs; anything measured needs a restart."""
    rig, key = sealed_rig(workspace)
    rig.push().must_be_ready()
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    rig.push(verbose=True).must_be_ready()
    connections = node.connections
    text = rig.config.read_text()
    rig.config.write_text(text.replace('[[providers', 'max_height_jump = 5\n\n[[providers', 1))
    rig.push().must_say("restart the enclave")
    rig.config.write_text(text + "reconnect = false\n")
    rig.push().must_say("differs from the running one", "restart the enclave")
    rig.config.write_text(text)
    rig.push().must_be_ready()
    node.wait_more(SIGN_SECONDS, 3)
    if node.connections != connections:
        raise Failure("a push broke the connection to the node")
    return f"{node.finish().count} signatures over {connections} connection"


SCENARIOS = [("policy", policy), ("bound-to-config", bound_to_config), ("keygen", keygen),
             ("push-again", credentials_again)]
