"""`tmkms nitro run`: beginnings and ends, and enclaves that die."""

import os
import signal
import time

from e2e_node import Asker
from e2e_rig import CHAIN, Failure, chains
from run_rig import HEAL_SECONDS, SIGN_SECONDS, RunRig, running_rig


def one_command(workspace):
    """Config, ready, signatures, the public key and the warning in the log; SIGTERM leaves nothing."""
    rig, node = running_rig(workspace)
    rig.must_say_once("SIMULATED: the enclave is a process of this machine")
    rig.must_say_once("[keyring:softsign] added consensus Ed25519 key: " + rig.key.public.hex().upper())
    rig.wait_says("enclave: ")
    took = rig.stop_run()
    return f"{node.finish().count} signatures, SIGTERM took {took:.1f} s"


SCENARIOS = [("run", one_command)]
