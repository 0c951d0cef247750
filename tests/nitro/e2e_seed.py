"""The prototype of December 2020: its run script and its configuration, which our commands must serve as they stand."""

import re

from e2e_guide import CHAIN, ROLE, Parent, Watched, wait_ready
from e2e_rig import ACCOUNT, INSTANCE, PCR0, Failure

# What its steps 4 and 5 do in the console and the shell of the trusted machine; then what is new.
BEFORE = f"""\
tmkms nitro kms-policy --account {ACCOUNT} --role {ROLE} --pcr0 {PCR0} --instance {INSTANCE} > policy.json
aws kms put-key-policy --key-id "$KEY_ID" --policy-name default --policy file://policy.json
tmkms softsign keygen -t consensus signing.key
aws kms encrypt --key-id "$KEY_ID" --plaintext fileb://signing.key --query CiphertextBlob --output text > signing.key.b64
"""
STATE = f"tmkms state init --state-file state.json --chain {CHAIN} --key signing.key"

# Its configuration has no public_key, no state file and no place of the node.
CONFIG = """\
[[chain]]
id = "testnet-croeseid-1"
key_format = { type = "bech32", account_key_prefix = "tcropub", consensus_key_prefix = "tcrocnclconspub" }
state_vsock_port = 6666

[[providers.softsign]]
chain_ids = ["testnet-croeseid-1"]
key_type = "consensus"
encrypted_key_b64 = "AQIC..."
aws_region = "ap-southeast-1"

[[validator]]
chain_id = "testnet-croeseid-1"
addr = { port = 5555 }
protocol_version = "v0.34"
reconnect = true
"""

# Step 8.1 of its guide, written again: the same commands with the same flags in the same order, the sleeps and the trap
# where it has them, the proxy in the foreground.
SCRIPT = """\
#!/bin/bash
set -e

cleanup ()
{
  nitro-cli terminate-enclave --enclave-id $(nitro-cli describe-enclaves | jq -r .[0].EnclaveID) || echo "it ended before"
  kill -TERM $VSOCK_PROXY
  kill -TERM $PERSIST
}

nitro-cli run-enclave --cpu-count 2 --memory 512 --eif-path /etc/tmkms/tmkms.eif

vsock-proxy 8000 kms.ap-southeast-1.amazonaws.com 443 &
VSOCK_PROXY=$!

sleep 1
tmkms nitro persist -p 6666 -s /etc/tmkms/state.json &
PERSIST=$!
trap cleanup TERM INT EXIT

sleep 1
tmkms nitro push-config -p 5050 -i $(nitro-cli describe-enclaves | jq -r .[0].EnclaveCID) -c /etc/tmkms/tmkms.toml

tmkms nitro proxy -p 5555 -u /run/chain-maind/validator.socket
"""

# The flags as its program's help spelled them.
LONG = {"-p 6666 -s": "--port 6666 --statefile", "-p 5050 -i": "--config_push_port 5050 --config_push_cid",
        " -c ": " --config ", "-p 5555 -u": "--port 5555 --uds"}


def with_long_flags(script):
    for short, long in LONG.items():
        if script.count(short) != 1:
            raise Failure(f"{short!r} is in the script {script.count(short)} times")
        script = script.replace(short, long)
    return script


def prepare(parent):
    parent.shell(BEFORE, "admin")
    (parent.home / "tmkms.eif").touch()
    parent.write_config(CONFIG)
    parent.shell(STATE)


def seed(workspace):
    """Its trap kills what is dead already, fails, and leaves a state of its own behind: that it ends well is not asked."""
    parent = Parent(workspace)
    parent.env["KEY_ID"] = parent.rig.kms.about["key_arn"]
    prepare(parent)
    watched = None
    for name, text in (("run_nitro_enclave_tmkms.sh", SCRIPT), ("long.sh", with_long_flags(SCRIPT))):
        script = parent.run_script(name, text)
        wait_ready(script)
        watched = watched or Watched(parent)
        watched.more_blocks(script)
        script.kill_group()
        parent.shell("nitro-cli terminate-enclave --enclave-id $(nitro-cli describe-enclaves | jq -r '.[0].EnclaveID')")
    if not re.search(r"public_key", script.log_text()):
        raise Failure("nobody warns that the configuration names no public_key")
    return f"the prototype's script and config, {watched.finish()}"


SCENARIOS = [("guide-of-2020", seed)]
