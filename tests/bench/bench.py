#!/usr/bin/env python3
"""`make bench`: measures the signer and prints a table; the raw figures go to build/bench.json.

A C program plays the nodes (tests/bench/bench.c). The enclave path is measured
with stand-ins for vsock and KMS. Beside every durable figure stands the floor, an in-place 4 KiB write
and fdatasync on the same file system, measured in turns with it. Nothing here passes or fails.

BENCH_SECONDS  length of one measurement (3)
BENCH_DIR      where state files lie (a folder in build/)
BENCH_PEERS=1  also builds and measures the Rust tmkms 0.15.0, where cargo is there
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/interop"), str(ROOT / "tests/nitro")]

import chain as chains  # noqa: E402
import e2e_rig  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "3"))
ROUNDS = 3
OPEN_RATE = 5
RECONNECTS, RESTARTS = 200, 5
HOPS, SIGNATURE_US = 6, 20
BUSY = 0.7  # load average
RUST_VERSION = "0.15.0"
SETUPS = {"disk": [("unix", 1), ("tcp", 1), ("tcp", 8), ("tcp", 64)], "tmpfs": [("unix", 1), ("tcp", 1)]}
SHM = Path("/dev/shm")
LOAD = chains.BUILD / "tests/bench/tmkms-load"


class LoadNode:
    """One node of the load program, as chain.Signer wants to see it."""

    def __init__(self, chain_id, address, link):
        self.chain_id, self.address, self.link = chain_id, address, link

    def signer_address(self):
        return self.address

    def line(self):
        return "v0.38"


class Load:
    """The load program with its nodes listening."""

    def __init__(self, workspace, count, link):
        addresses = [f"unix://{workspace.folder}/{i}.sock" if link == "unix" else f"tcp://127.0.0.1:{workspace.port()}"
                     for i in range(count)]
        self.popen = subprocess.Popen([LOAD, "nodes", "p1", *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True, start_new_session=True)
        self.nodes = []
        for _ in addresses:
            _, chain_id, address = self.popen.stdout.readline().split()
            self.nodes.append(LoadNode(chain_id, address, link))

    def wait_ready(self):
        if self.popen.stdout.readline().strip() != "ready":
            raise chains.Failure("the load program never became ready")

    def ask(self, command):
        self.popen.stdin.write(command + "\n")
        self.popen.stdin.flush()
        answer = self.popen.stdout.readline()
        if not answer:
            raise chains.Failure(f"the load program ended at `{command}`")
        return json.loads(answer)

    def close(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


class Ours:
    name, durable = "tmkms (this one)", True

    def start(self, workspace, nodes):
        signer = chains.Signer(workspace)
        signer.configure(nodes)
        chains.run([chains.BINARY, "state", "init", "-c", signer.config], 120)
        signer.start()
        return signer.process


class Enclave:
    """The enclave process behind stand-ins for vsock: node, proxy, enclave, and its state through persist."""

    name, durable = "tmkms, enclave path", True

    def start(self, workspace, nodes):
        rig = e2e_rig.Rig(workspace)
        rig.socket = Path(nodes[0].signer_address().removeprefix("unix://"))
        rig.proxy.argv[rig.proxy.argv.index("-u") + 1] = str(rig.socket)
        rig.enclave.argv.remove("-v")
        rig.start()
        key = chains.Key(rig.folder / "signing.key")
        rig.write_config(rig.seal(key.path), key.public.hex(), chain=nodes[0].chain_id)
        rig.init_state(key, nodes[0].chain_id)
        rig.start_parent()
        rig.push().must_be_ready()
        return rig.enclave


class Rust:
    """The Rust tmkms allows one consensus key, so all chains share it."""

    name, durable = f"Rust tmkms {RUST_VERSION}", False

    def __init__(self, binary):
        self.binary = binary

    def start(self, workspace, nodes):
        signer = chains.Signer(workspace)
        text = "[[providers.softsign]]\nchain_ids = [" + ", ".join(f'"{n.chain_id}"' for n in nodes) + "]\n"
        text += f'path = "{signer.key("shared").path}"\n\n'
        for node in nodes:
            text += (f'[[chain]]\nid = "{node.chain_id}"\nkey_format = {{ type = "hex" }}\n'
                     f'state_file = "{signer.folder}/{node.chain_id}.json"\n\n'
                     f'[[validator]]\nchain_id = "{node.chain_id}"\naddr = "{node.signer_address()}"\n'
                     f'protocol_version = "v0.38"\nsecret_key = "{signer.identity.path}"\n\n')
        signer.config.write_text(text)
        process = workspace.process("rust-tmkms", [self.binary, "start", "-c", signer.config])
        process.start()
        return process


# ---- measuring -------------------------------------------------------------------------------

def floor(folder):
    line = chains.run([LOAD, "floor", folder / "floor", SECONDS], SECONDS + 30)
    return json.loads(line)


def hop_us():
    """Half of the median round trip between two processes."""
    return json.loads(chains.run([LOAD, "hops", 1]))["p50_us"] / 2


def median_of(rounds):
    """One figure from several rounds: the median of each percentile."""
    merged = dict(rounds[0])
    for key in ("per_second", "min_us", "p50_us", "p90_us", "p99_us", "max_us"):
        merged[key] = statistics.median(r[key] for r in rounds)
    merged["n"] = sum(r["n"] for r in rounds)
    return merged


def family(pid):
    """The process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found, added = {pid}, True
    while added:
        more = {p for p, parent in parents.items() if parent in found and p not in found}
        found, added = found | more, bool(more)
    return found


def pss_kib(pid):
    total = 0
    for member in family(pid):
        try:
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            return None
    return total


class Bench:
    def __init__(self):
        self.rows = []

    def add(self, signer, store, link, count, what, figures, **more):
        row = {"signer": signer.name, "store": store, "link": link, "chains": count, "what": what, **figures, **more}
        self.rows.append(row)
        print(words(row), flush=True)

    def run(self, signer, store, folder, link, count):
        """Everything about one signer with this many chains over this link."""
        # The log goes to memory, so that it does not write to the disk that is measured.
        with chains.Workspace(folder_in=folder, logs_in=SHM if SHM.is_dir() else None) as workspace:
            load = Load(workspace, count, link)
            try:
                self.measure(signer, store, link, count, workspace, load)
            finally:
                load.close()

    def measure(self, signer, store, link, count, workspace, load):
        process = signer.start(workspace, load.nodes)
        try:
            load.wait_ready()
        except chains.Failure as why:
            raise chains.Failure(f"{why}\n{workspace.log_tails()}") from None
        floors, loads = [], []
        for _ in range(ROUNDS):
            floors.append(floor(workspace.folder))
            loads.append(load.ask(f"closed {count} {SECONDS}"))
        low = median_of(floors)
        more = {"hop_us": hop_us()} if isinstance(signer, Enclave) else {}
        self.add(signer, store, link, count, "closed", median_of(loads), floor_p50_us=low["p50_us"],
                 floor_p99_us=low["p99_us"], **more)
        if count > 1:
            self.add(signer, store, link, count, "open", load.ask(f"open {count} {SECONDS * 2} {OPEN_RATE}"))
        else:
            self.add(signer, store, link, count, "memory", {"pss_kib": pss_kib(process.popen.pid)})
        if count == 1 and store == "disk":
            slow = not isinstance(signer, Ours)  # it waits a second before each dial
            self.add(signer, store, link, count, "reconnect", load.ask(f"reconnect {5 if slow else RECONNECTS}"))
            self.add(signer, store, link, count, "restart", load.ask(f"restart {RESTARTS}"))


def words_of_hops(row):
    """Six hops: node, proxy, session, signer, and to the store and back; and one signature."""
    if "hop_us" not in row:
        return ""
    target = row["floor_p50_us"] + HOPS * row["hop_us"] + SIGNATURE_US
    return f"   floor + {HOPS} hops of {row['hop_us']:.0f} us + one signature: {target:.0f}"


def words(row):
    where = f"{row['signer']:<20} {row['store']:<6} {row['link']:<5} {row['chains']:>3} chains  "
    if row["what"] == "closed":
        return (where + f"p50 {row['p50_us']:>6.0f} us   p99 {row['p99_us']:>6.0f} us   {row['per_second']:>7.0f}/s   "
                f"floor p50 {row['floor_p50_us']:.0f}, p99 {row['floor_p99_us']:.0f}   "
                f"{row['p50_us'] / row['floor_p50_us']:.2f} x floor" + words_of_hops(row))
    if row["what"] == "open":
        return (where + f"p50 {row['p50_us']:>6.0f} us   p99 {row['p99_us']:>6.0f} us   open loop, {OPEN_RATE} requests/s a chain")
    if row["what"] == "memory":
        return where + (f"{row['pss_kib'] / 1024:.1f} MiB PSS, all processes" if row["pss_kib"] else "PSS: cannot be read")
    back = {"reconnect": "after a closed connection", "restart": "after the node listens again"}[row["what"]]
    rate = f"   {row['per_second']:.0f} connections/s" if row["what"] == "reconnect" else ""
    return where + f"p50 {row['p50_us'] / 1000:>6.2f} ms   max {row['max_us'] / 1000:>6.2f} ms   back {back}{rate}"


# ---- what is measured ------------------------------------------------------------------------

def get_rust():
    """The Rust tmkms, built once into the cache; None (and why, on stderr) where that is not possible."""
    cargo = shutil.which("cargo")
    if cargo is None:
        print("BENCH_PEERS: no cargo here", file=sys.stderr)
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / f"tmkms-tests/rust-tmkms-{RUST_VERSION}"
    binary = cache / "bin/tmkms"
    if not binary.exists():
        print(f"building the Rust tmkms {RUST_VERSION} (once; some minutes)", file=sys.stderr)
        done = subprocess.run([cargo, "install", "tmkms", "--version", RUST_VERSION, "--features", "softsign", "--root",
                               cache, "--locked", "--quiet"])
        if done.returncode != 0:
            return None
    return Rust(binary)


def environment(folder):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    file_system = chains.run(["stat", "-f", "-c", "%T", folder]).strip()
    return {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": model, "cores": os.cpu_count(),
            "kernel": platform.release(), "file_system": file_system, "load_average": os.getloadavg(),
            "version": chains.run([chains.BINARY, "--version"]).strip(), "seconds": SECONDS, "rounds": ROUNDS}


def main():
    disk = Path(os.environ.get("BENCH_DIR", chains.BUILD / "bench-data")).resolve()
    disk.mkdir(parents=True, exist_ok=True)
    stores = [("disk", disk)]
    if SHM.is_dir():
        stores.append(("tmpfs", SHM))
    bench = Bench()
    about = environment(disk)
    if about["load_average"][0] > BUSY:
        print("warning: the machine is busy, so these figures say little about the signer", file=sys.stderr)
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, {about['file_system']}, "
          f"load {about['load_average'][0]:.2f}; {ROUNDS} x {SECONDS} s a figure\n")
    signers = [Ours()]
    if os.environ.get("BENCH_PEERS") == "1" and (rust := get_rust()):
        signers.append(rust)
    try:
        for signer in signers:
            for store, folder in stores:
                for link, count in (("unix", 1), ("tcp", 1)) + ((("tcp", 8), ("tcp", 64)) if store == "disk" else ()):
                    bench.run(signer, store, folder, link, count)
        for store, folder in stores:
            try:
                bench.run(Enclave(), store, folder, "unix", 1)
            except e2e_rig.Skip as why:
                print(f"skipped: the enclave path: {why}")
    except chains.Failure as why:
        print(f"error: {why}", file=sys.stderr)
        return 1
    finally:
        output = chains.BUILD / "bench.json"
        output.write_text(json.dumps({"environment": about, "rows": bench.rows}, indent=1) + "\n")
        print(f"\nraw figures: {output}")
        if "BENCH_DIR" not in os.environ:
            shutil.rmtree(disk, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
