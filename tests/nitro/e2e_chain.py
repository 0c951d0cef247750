"""A real CometBFT node with vote extensions that signs through the enclave."""

import random
import subprocess
import time

from e2e_faults import HUNG_SECONDS, Supervisor, kill, settle, victims
from e2e_node import Recorder
from e2e_rig import CHAIN, ROOT, Failure, Rig, Skip, chains, sealed_rig
from chain import Key, Node

VERSION = "v0.38.25"
BLOCKS, CHAIN_SECONDS = 20, 60
NODE_KILLS = 12


def comet(version=VERSION):
    """The binary of a node; Skip without Go."""
    done = subprocess.run([ROOT / "tools/get-cometbft.sh", version], capture_output=True, text=True)
    if done.returncode == 77:
        raise Skip((done.stderr.strip().splitlines() or ["?"])[-1])
    if done.returncode != 0:
        raise Failure(f"CometBFT {version} cannot be built: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def node_for(rig, key, pause="100ms"):
    """A node whose privval socket is reached over a recorder at rig.socket."""
    node = Node(rig.workspace, comet(), VERSION, CHAIN, "unix")
    node.configure(key, pause=pause)
    return node, Recorder(rig.socket, f"{node.home}/privval.sock")


def finish(node, recorder, key, blocks):
    node.wait_height(blocks, CHAIN_SECONDS)
    node.check_blocks(blocks - 1, key.address)
    if not node.extensions_are_on():
        raise Failure("vote extensions are off")
    return recorder.finish()


def with_key_sealed_by(seal):
    """softsign keygen, seal, config, state init, push-config, twenty blocks."""
    def scenario(workspace):
        rig = Rig(workspace).start()
        key = Key(rig.folder / "signing.key")
        rig.write_config(seal(rig, key.path), key.public.hex())
        rig.init_state(key)
        rig.start_parent()
        node, recorder = node_for(rig, key)
        node.start()
        pushed = rig.push().must_be_ready()
        if key.public.hex().upper() not in pushed.out:
            raise Failure(f"push-config does not print the public key: {pushed.out}")
        signatures = finish(node, recorder, key, BLOCKS)
        shown = chains.run([chains.BINARY, "state", "show", "--state-file", rig.state_file])
        if CHAIN not in shown:
            raise Failure(f"the state on the parent is not of our chain: {shown}")
        return f"{BLOCKS} blocks, {signatures.count} signatures"
    return scenario


def kills_under_a_chain(workspace):
    """The same promise with a real node, which dies as well: it replays its log and asks for what was signed already."""
    rig, key = sealed_rig(workspace)
    node, recorder = node_for(rig, key, pause="20ms")
    node.start()
    rig.push().must_be_ready()
    node.wait_height(3, CHAIN_SECONDS)
    supervisor, chance = Supervisor(rig), random.Random()
    try:
        for n in range(NODE_KILLS):
            time.sleep(chance.random() * 0.2)
            if n % 4 == 3:
                node.process.kill_group()
                node.start()
            else:
                kill(chance.choice(victims(rig)))
            settle(rig, supervisor)
            height = node.height()
            node.wait_height(height + 2, HUNG_SECONDS)
    finally:
        supervisor.finish()
    height = node.height()
    signatures = finish(node, recorder, key, height)
    return f"{NODE_KILLS} kills, {height} blocks, {signatures.count} signatures"


SCENARIOS = [("chain-kills", kills_under_a_chain),
             ("chain-seal", with_key_sealed_by(lambda rig, path: rig.seal(path))),
             ("chain-aws-encrypt", with_key_sealed_by(lambda rig, path: rig.seal_with_aws(path)))]
