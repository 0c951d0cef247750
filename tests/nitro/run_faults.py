"""`tmkms nitro run`: enclaves that die or hang, and what they need and do not get, heal without a hand."""

import datetime
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from e2e_node import Asker
from e2e_rig import CHAIN, SIM, Failure, chains, wait_until
from chain import Key
from run_rig import HEAL_SECONDS, SIGN_SECONDS, RunRig, running_rig

KILLS = ("start", "@signer", "@keeper")
LIVED_SECONDS = 11
HANG_SECONDS = 30  # 5 s until it is asked, 5 s for an answer, a new enclave, and a busy machine


def heal(rig, node, act):
    """Does something bad, and waits until another enclave signs; returns the seconds from the one to the other."""
    n = rig.ready_count()
    began = time.monotonic()
    act()
    rig.wait_ready(n + 1, HEAL_SECONDS)
    node.wait_more(SIGN_SECONDS, 1)
    took = time.monotonic() - began
    node.wait_more(SIGN_SECONDS, 3)
    return took


def killed_one(victim):
    def scenario(workspace):
        rig, node = running_rig(workspace)
        took = heal(rig, node, lambda: os.kill(rig.pid_of(victim), signal.SIGKILL))
        rig.stop_run()
        signatures = node.finish()
        return f"signing again after {took * 1000:.0f} ms, {signatures.count} signatures to height {node.height}"
    return scenario


def killed_often(workspace):
    """Deaths that follow each other: the waits grow, and nothing is signed twice. The next one would take 8 s, but not of
    an enclave that has signed for a while, be it that it hung at last."""
    rig, node = running_rig(workspace)
    files = rig.open_files()
    took = [heal(rig, node, lambda: os.kill(rig.pid_of("start"), signal.SIGKILL)) for _ in range(4)]
    wait_until(f"as many open files as at first ({files})", 5, lambda: rig.open_files() <= files, [rig.run])
    time.sleep(LIVED_SECONDS)
    n = rig.ready_count()
    os.kill(rig.pid_of("start"), signal.SIGSTOP)
    rig.wait_says("the enclave is lost", HEAL_SECONDS)
    began = time.monotonic()
    rig.wait_ready(n + 1, HEAL_SECONDS)
    after_hang = time.monotonic() - began
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    if after_hang > 7:
        raise Failure(f"another enclave {after_hang:.1f} s after one that had lived was given up")
    if took[0] >= took[3] or took[3] < 3.5:
        raise Failure(f"healed after {took} s")
    return f"healed after {', '.join(f'{t:.1f}' for t in took)} s, {node.finish().count} signatures"


def hung(workspace):
    """A stopped enclave: everything is connected, nothing answers."""
    rig, node = running_rig(workspace)
    took = heal(rig, node, lambda: os.kill(rig.pid_of("start"), signal.SIGSTOP))
    if took > HANG_SECONDS:
        raise Failure(f"healed after {took:.1f} s")
    rig.must_say_once("the enclave is lost: it does not answer")
    rig.stop_run()
    return f"signing again after {took:.1f} s, {node.finish().count} signatures"


def hung_inside(victim):
    """The enclave answers, and says that one of its processes does not."""
    def scenario(workspace):
        rig, node = running_rig(workspace)
        took = heal(rig, node, lambda: os.kill(rig.pid_of(victim), signal.SIGSTOP))
        rig.must_say_once("the enclave is lost: a process in it hangs")
        rig.stop_run()
        return f"signing again after {took:.1f} s, {node.finish().count} signatures"
    return scenario


def no_kms(workspace):
    """KMS is down at the start: said once, and healed when it comes; the enclave is the same all the time."""
    rig = RunRig(workspace).prepare_with_gate()
    node = Asker(rig.socket, CHAIN)
    rig.start_run()
    rig.wait_says("it waits for KMS, and goes on when that comes")
    enclave = rig.pid_of("start")
    time.sleep(3)  # it tries again all the time
    rig.must_say_once("it waits for KMS")
    rig.must_say_once(f"[tcp://{rig.endpoint()}] I/O error")
    rig.gate.open()
    rig.wait_ready()
    node.wait_more(SIGN_SECONDS, 3)
    if rig.pid_of("start") != enclave:
        raise Failure("the enclave was started anew")
    rig.stop_run()
    return f"{node.finish().count} signatures"


def no_validator(workspace):
    """Ready without a validator, which comes later, and goes, and comes: each is said once."""
    rig = RunRig(workspace).prepare().start_run()
    rig.wait_ready()
    place, down = f"[unix://{rig.socket}]", f"[unix://{rig.socket}] "
    rig.wait_says(down)
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    rig.wait_says(f"{place} connected again")
    node.die()
    rig.socket.unlink()
    wait_until("second word about the validator", 10, lambda: rig.run.log_text().count(f"WARN tmkms::proxy: {place}") == 2)
    node.finish()
    again = Asker(rig.socket, CHAIN, height=node.height + 1)
    again.wait_more(SIGN_SECONDS, 3)
    if rig.run.log_text().count(f"WARN tmkms::proxy: {place}") != 2:
        raise Failure("the validator's absence is said more than once")
    rig.stop_run()
    return f"{again.finish().count} signatures"


class Imds(ThreadingHTTPServer):
    """The metadata service of an instance, whose credentials last as long as the test wants."""

    def __init__(self, credentials):
        super().__init__(("127.0.0.1", 0), ImdsHandler)
        self.credentials, self.seconds, self.is_broken, self.asked = credentials, 3600, False, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self):
        self.asked += 1
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.seconds)
        return json.dumps({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.credentials["aws_key_id"],
                           "SecretAccessKey": self.credentials["aws_secret_key"],
                           "Token": self.credentials["aws_session_token"], "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")})


class ImdsHandler(BaseHTTPRequestHandler):
    def reply(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.reply(200, "token")

    def do_GET(self):
        path = "/latest/meta-data/iam/security-credentials/"
        if self.server.is_broken:
            self.reply(500, "broken")
        elif self.path == path:
            self.reply(200, "role-of-the-enclave")
        elif self.path == path + "role-of-the-enclave":
            self.reply(200, self.server.answer())
        else:
            self.reply(404, "")

    def log_message(self, *_):
        pass


def credentials_end(workspace):
    """Short-lived credentials are renewed before they end; a metadata service that fails is said once, while the enclave
    signs on, and once more when they have ended."""
    rig = RunRig(workspace, credentials_in_config=False).prepare()
    imds = Imds(rig.kms.about["credentials"]["enclave"])
    rig.run.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{imds.server_port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        rig.run.env.pop(name, None)
    imds.seconds = 12
    node = Asker(rig.socket, CHAIN)
    rig.start_run().wait_ready()
    rig.wait_says("instance role role-of-the-enclave")
    enclave = rig.pid_of("start")
    wait_until("renewal", 12, lambda: imds.asked >= 2, [rig.run])
    imds.is_broken = True
    rig.wait_says("the credentials cannot be renewed (the enclave signs on)")
    rig.wait_says("the credentials have expired")
    node.wait_more(SIGN_SECONDS, 3)
    rig.must_say_once("the credentials cannot be renewed")
    imds.is_broken, imds.seconds = False, 3600
    rig.wait_says("the credentials are renewed again")
    if rig.pid_of("start") != enclave or rig.ready_count() != 1:
        raise Failure("the enclave was started anew")
    rig.stop_run()
    imds.shutdown()
    return f"asked {imds.asked} times, {node.finish().count} signatures"


def attached(workspace):
    """--cid: somebody else starts the enclave, later, and again after it died; it outlives the supervisor."""
    rig = RunRig(workspace)
    rig.uds = rig.folder / "vsock"
    rig.prepare()
    enclave = rig.enclave
    enclave.argv = [str(SIM), "nitro", "start", "--vsock-uds", str(rig.uds)]
    rig.run = rig.make_run("--cid", 16, "--vsock-uds", rig.uds)
    node = Asker(rig.socket, CHAIN)
    rig.start_run()
    rig.wait_says(f"no enclave behind {rig.uds} answers on port 5050. `tmkms nitro describe-enclaves`")
    for n in (1, 2):
        rig.start_enclave()
        rig.wait_ready(n)
        node.wait_more(SIGN_SECONDS, 3)
        if n == 1:
            enclave.kill_group()
            rig.wait_says("the enclave is lost")
    rig.must_say_once("no enclave behind")
    rig.run.stop(signal.SIGTERM, 10)
    if enclave.code() is not None:
        raise Failure("the enclave was ended, which another had started")
    return f"{node.finish().count} signatures by two enclaves"


def wrong_key(workspace):
    """A fault that does not pass by itself: said once, with what to do; Ctrl-C is no fault."""
    rig = RunRig(workspace).prepare()
    other = Key(rig.folder / "other.key")
    rig.config.write_text(rig.config.read_text().replace(rig.key.public.hex(), other.public.hex()))
    rig.state_file.unlink()
    rig.init_state(other)
    rig.start_run()
    words = f"public_key in the configuration is {other.public.hex().upper()}; correct the one that is wrong, then start again"
    rig.wait_says(words)
    time.sleep(9)  # three pushes more
    if rig.run.log_text().count(words) > 2 or rig.run.log_text().count("tmkms::run: the enclave does not take") != 1:
        raise Failure(f"it is said more than once by the supervisor and by the enclave: {rig.run.log_text()}")
    os.killpg(rig.run.popen.pid, signal.SIGINT)
    code = rig.run.popen.wait(10)
    if code != 0 or "control socket is broken" in rig.run.log_text():
        raise Failure(f"Ctrl-C: it ended with {code}: {rig.run.log_text()}")
    return "once by the supervisor, once by the enclave"


SCENARIOS = [("killed-often", killed_often), ("hung-signer", hung_inside("@signer")), ("hung-session", hung_inside("@session")),
             ("credentials", credentials_end), ("hung", hung), ("attached", attached),
             ("wrong-key", wrong_key), ("no-kms", no_kms), ("no-validator", no_validator),
             *[(f"killed-{name.strip('@').replace('start', 'enclave')}", killed_one(name)) for name in KILLS]]
