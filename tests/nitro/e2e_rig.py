"""The enclave path on one machine: KMS, enclave, the parent's commands and a node, over unix sockets and loopback.

A Rig is the parent instance with its enclave. Nothing in it is mocked inside our programs: the enclave is
`tmkms-sim nitro start`, which differs from the release in its NSM alone; vsock is replaced by unix sockets; KMS is
tests/kms/kms_front.py, which checks signature, attestation and key policy.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))

import chain as chains  # noqa: E402
from chain import Failure, Key, Process, run, wait_until  # noqa: E402

SIM = Path(os.environ.get("TMKMS_SIM_BINARY", chains.BINARY.with_name("tmkms-sim")))
ACCOUNT, REGION = "123456789012", "eu-west-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/enclave"
INSTANCE = "i-0123456789abcdef0"
PCR0 = "a5" * 48
KMS_PORT, STATE_PORT, NODE_PORT, LOG_PORT, CONFIG_PORT = 8000, 6666, 5555, 6050, 5050
CHAIN = "test-enclave"
START_SECONDS, PUSH_SECONDS = 20, 60


class Skip(Exception):
    """What is missing here."""


def python_tools():
    """The interpreter that has moto, botocore and the AWS CLI; Skip where PyPI is not reachable."""
    done = subprocess.run([ROOT / "tools/get-python-tools.sh"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip((done.stderr.strip().splitlines() or ["?"])[-1])
    return Path(done.stdout.strip())


class KmsFront(Process):
    """tests/kms/kms_front.py; what it printed when it was ready is in .about."""

    def start(self):
        with open(self.log, "ab") as out:
            # It ends when its standard input does, so that nobody's death leaves it behind.
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=out, stderr=out,
                                          start_new_session=True, env=self.env)

    def wait_ready(self):
        self.about = None

        def is_ready():
            lines = [line for line in self.log_text().splitlines() if line.startswith('{"port"')]
            if lines:
                self.about = json.loads(lines[-1])
            return self.about is not None
        wait_until("KMS front", START_SECONDS, is_ready, [self])


class Pushed:
    """What push-config printed."""

    def __init__(self, done):
        self.code, self.out, self.text = done.returncode, done.stdout, done.stdout + done.stderr

    def must_be_ready(self):
        if self.code != 0 or not self.out.startswith("ready"):
            raise Failure(f"push-config ended with {self.code}: {self.text.strip()}")
        return self

    def must_say(self, *words):
        if self.code == 0:
            raise Failure(f"push-config succeeded where it had to say {words}: {self.text.strip()}")
        for word in words:
            if word.lower() not in self.text.lower():
                raise Failure(f"push-config does not say {word!r}: {self.text.strip()}")
        return self


class Rig:
    """One parent instance with one enclave. The node listens on `self.socket`; start it first or later."""

    def __init__(self, workspace, kms_options=(), enclave_env=None):
        self.workspace, self.folder = workspace, workspace.folder
        self.uds = self.folder / "vsock"
        self.nsm_dir = self.folder / "nsm"
        self.nsm_dir.mkdir(exist_ok=True)
        self.socket = self.folder / "node.sock"
        self.policy_file = self.folder / "policy.json"
        self.config = self.folder / "tmkms.toml"
        self.state_file = self.folder / "state.json"
        self.kms_options = list(kms_options)
        self.enclave = self.make_enclave(enclave_env)
        self.persist = self.parent("persist", ["-p", STATE_PORT, "-s", self.state_file])
        self.proxy = self.parent("proxy", ["-p", NODE_PORT, "-u", self.socket])
        self.kms_proxy = self.kms = None

    def make_enclave(self, environment):
        return self.workspace.process("enclave", [SIM, "nitro", "start", "-v", "--vsock-uds", self.uds],
                                      self.enclave_env(environment))

    def enclave_env(self, more=None):
        return {"TMKMS_SIM_DIR": str(self.nsm_dir), "TMKMS_SIM_PCR0": PCR0, "TMKMS_SIM_ROLE": ROLE,
                "TMKMS_SIM_INSTANCE": INSTANCE, **(more or {})}

    def parent(self, command, arguments, name=None):
        """A process of the release binary on the parent's side."""
        return self.workspace.process(name or command, [chains.BINARY, "nitro", command, *arguments, "--vsock-uds", self.uds])

    # ---- starting ----

    def start_enclave(self):
        self.enclave.start()
        self.wait_enclave()

    def wait_enclave(self):
        wait_until("config port of the enclave", START_SECONDS, self.enclave_listens, [self.enclave])

    def enclave_listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.settimeout(1)
                s.connect(str(self.uds))
                s.sendall(b"CONNECT 5050\n")
                return s.recv(64).startswith(b"OK")
            except OSError:
                return False

    def kms_trust(self):
        """What the KMS is told about who signs attestation documents: the root that the enclave has made."""
        root = self.nsm_dir / "root.pem"
        wait_until("root of the software NSM", START_SECONDS, root.exists, [self.enclave])
        return ["--nsm-root", root]

    def start_front(self):
        python = python_tools()
        argv = [python, ROOT / "tests/kms/kms_front.py", "--dir", self.folder, *self.kms_trust(), "--policy",
                self.policy_file, "--role", ROLE, "--account", ACCOUNT, "--region", REGION, *self.kms_options]
        self.kms = KmsFront("kms", [str(a) for a in argv], self.workspace.logs / "kms.log")
        self.workspace.processes.append(self.kms)
        self.aws = python.with_name("aws")
        self.set_policy()
        self.kms.start()
        self.kms.wait_ready()

    def start_kms(self):
        """The front and the proxy to it."""
        self.start_front()
        place = f"localhost:{self.kms.about['port']}"
        self.kms_proxy = self.parent("kms-proxy", ["-p", KMS_PORT, "--allow", place, place])
        self.kms_proxy.start()
        self.wait_port(KMS_PORT, self.kms_proxy)

    def start(self):
        self.start_enclave()
        self.start_kms()
        return self

    def start_parent(self):
        self.persist.start()
        self.proxy.start()
        self.wait_port(STATE_PORT, self.persist)
        self.wait_port(NODE_PORT, self.proxy)

    def wait_port(self, port, process):
        wait_until(f"port {port} of the parent", START_SECONDS, Path(f"{self.uds}_{port}").exists, [process])

    # ---- KMS ----

    def image_in_policy(self):
        return ["--pcr0", PCR0]

    def set_policy(self, *arguments):
        """The key policy that our command prints, for this image unless arguments say otherwise."""
        arguments = list(arguments) or self.image_in_policy()
        self.policy_file.write_text(run([chains.BINARY, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE,
                                         *arguments]))

    def aws_env(self, who):
        c = self.kms.about["credentials"][who]
        env = {"AWS_ACCESS_KEY_ID": c["aws_key_id"], "AWS_SECRET_ACCESS_KEY": c["aws_secret_key"],
               "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
               "AWS_CA_BUNDLE": self.kms.about["root"]}
        return {**env, "AWS_SESSION_TOKEN": c["aws_session_token"]} if c["aws_session_token"] else env

    def endpoint(self):
        return f"localhost:{self.kms.about['port']}"

    def seal(self, key_file, context=()):
        """`tmkms nitro seal` by the administrator."""
        pairs = [a for name, value in context for a in ("--context", f"{name}={value}")]
        return run([chains.BINARY, "nitro", "seal", "--key-id", self.kms.about["key_arn"], "--endpoint", self.endpoint(),
                    "--kms-root", self.kms.about["root"], *pairs, key_file], env=self.aws_env("admin")).strip()

    def seal_with_aws(self, key_file):
        """The seed guide's own command."""
        return run([self.aws, "kms", "encrypt", "--endpoint-url", f"https://{self.endpoint()}", "--key-id",
                    self.kms.about["key_arn"], "--plaintext", f"fileb://{key_file}", "--query", "CiphertextBlob",
                    "--output", "text"], 60, self.aws_env("admin")).strip()

    # ---- configuration and push ----

    def write_config(self, sealed, public_hex=None, chain_lines=(), key_lines=(), who="enclave", chain=CHAIN, path=None):
        c = self.kms.about["credentials"][who]
        credentials = ", ".join(f'{name} = "{value}"' for name, value in c.items())
        lines = [f'[enclave]\nlog_vsock_port = {LOG_PORT}\n\n[[chain]]\nid = "{chain}"', 'key_format = { type = "hex" }',
                 f"state_vsock_port = {STATE_PORT}"]
        lines += [f'public_key = "{public_hex}"'] if public_hex else []
        lines += [*chain_lines, f'\n[[providers.softsign]]\nchain_ids = ["{chain}"]', 'key_type = "consensus"',
                  f'encrypted_key_b64 = "{sealed}"', f'aws_region = "{REGION}"', f"credentials = {{ {credentials} }}",
                  f'kms_endpoint = "{self.endpoint()}"', f'kms_root_file = "{self.kms.about["root"]}"', *key_lines,
                  f'\n[[validator]]\nchain_id = "{chain}"', f"addr = {{ port = {NODE_PORT} }}",
                  'protocol_version = "v0.38"']
        (path or self.config).write_text("\n".join(lines) + "\n")

    def init_state(self, key, chain=CHAIN, state_file=None, height=0):
        run([chains.BINARY, "state", "init", "--state-file", state_file or self.state_file, "--chain", chain,
             "--pubkey", key.public.hex(), "--height", height])

    def push(self, config=None, verbose=False, seconds=PUSH_SECONDS):
        argv = [chains.BINARY, "nitro", "push-config", "-c", config or self.config, "--vsock-uds", self.uds, "--timeout", seconds]
        return Pushed(subprocess.run([str(a) for a in argv + (["-v"] if verbose else [])], stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, timeout=seconds + 10))

    def restart_enclave(self):
        self.enclave.kill_group()
        self.start_enclave()


def sealed_rig(workspace, **more):
    """A rig that is ready to sign but for the push, and its key."""
    rig = Rig(workspace, **more).start()
    key = Key(rig.folder / "signing.key")
    rig.write_config(rig.seal(key.path), key.public.hex())
    rig.init_state(key)
    rig.start_parent()
    return rig, key
