#!/usr/bin/env python3
"""Stand-ins for programs that run enclaves. Usage: fake_machines.py qemu|vhost|nitro-cli FOLDER [ARGUMENT...]

Each call appends its arguments to FOLDER/PROGRAM.calls, one line of JSON, and does what FOLDER/PROGRAM.mood says:

qemu       "" boots; "old" knows no nitro-enclave machine; "dies" ends at once; "silent" sends no heartbeat;
           "short" boots and ends after a second
vhost      "" listens; "dies" ends at once
nitro-cli  "" works; "busy" cannot start; "refuse WORDS" cannot start either; "garbled" prints no JSON; "slow" never
           ends; "late SECONDS" starts so slowly, in a process that lives on when the call is killed; "deaf" does not
           describe; "forgetful" shows no enclave, once
"""

import json
import os
import signal
import sys
import time

PROGRAM, FOLDER, ARGUMENTS = sys.argv[1], sys.argv[2], sys.argv[3:]


def read(name, otherwise=""):
    try:
        with open(f"{FOLDER}/{name}", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return otherwise


def write(path, text, how="w"):
    with open(path, how, encoding="utf-8") as file:
        file.write(text)


def mood():
    return read(f"{PROGRAM}.mood").strip()


def option(name):
    return ARGUMENTS[ARGUMENTS.index(name) + 1] if name in ARGUMENTS else None


def listen(path):
    import socket  # here, as the calls that need none are many
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    return s


# ---- QEMU and vhost-device-vsock ----

def vhost():
    if mood() == "dies":
        sys.exit("no vsock today")
    vm = dict(word.split("=", 1) for word in option("--vm").split(","))
    write(f"{FOLDER}/uds", vm["uds-path"])
    sockets = [listen(vm["uds-path"]), listen(vm["socket"])]
    time.sleep(3600)
    del sockets


def qemu():
    if ARGUMENTS == ["-M", "help"]:
        print("microvm              microvm (i386)")
        if mood() != "old":
            print("nitro-enclave        AWS Nitro Enclave")
        return
    import socket
    console = option("-serial").removeprefix("file:")
    write(console, "\x1b[0mbooting\r\nready\r\n")
    # What is asked for must be there before: a socket of the back end, and who hears the heartbeat.
    back_end = socket.socket(socket.AF_UNIX)
    back_end.connect(option("-chardev").split("path=")[1].replace(",,", ","))
    if mood() == "dies":
        write(console, "Kernel panic\n")
        sys.exit("out of luck")
    if mood() != "silent":
        heart = socket.socket(socket.AF_UNIX)
        heart.connect(read("uds") + "_9000")
        heart.sendall(b"\xb7")
        if heart.recv(1) != b"\xb7":
            sys.exit("no heartbeat came back")
    time.sleep(1 if mood() == "short" else 3600)


# ---- nitro-cli ----

def enclaves():
    return [e for e in json.loads(read("enclaves.json", "[]")) if is_alive(e)]


def is_alive(enclave):
    """That of a real machine has no process here to ask."""
    if "ProcessID" not in enclave:
        return True
    try:
        os.kill(enclave["ProcessID"], 0)
        return True
    except ProcessLookupError:
        return False


def store(all_of_them):
    write(f"{FOLDER}/enclaves.new", json.dumps(all_of_them))
    os.rename(f"{FOLDER}/enclaves.new", f"{FOLDER}/enclaves.json")


def run_enclave():
    if mood() == "busy":
        print("Start allocating memory...\n[ E27 ] Insufficient memory available. User provided `memory` is 64 MB, "
              "which is more than the available hugepage memory.\nYou can increase the available memory (e.g. by "
              "editing the `memory_mib` value from `/etc/nitro_enclaves/allocator.yaml`)", file=sys.stderr)
        sys.exit(27)
    if mood().startswith("refuse "):
        sys.exit(f"Start allocating memory...\n{mood().removeprefix('refuse ')}\n\nFor more details, see the log.")
    print("Start allocating memory...\nStarted enclave with enclave-cid: 18, memory: 64 MiB, cpu-ids: [1, 3]",
          file=sys.stderr)
    if mood() == "garbled":
        print("everything is fine")
        return
    if mood().startswith("late "):
        if os.fork() != 0:
            os.wait()
            print(json.dumps(enclaves()[-1], indent=2))
            return
        os.setsid()
        time.sleep(float(mood().removeprefix("late ")))
    keeps = os.posix_spawnp("sleep", ["sleep", "3600"], os.environ, setsid=True,
                            file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)])
    enclave = {"EnclaveName": option("--enclave-name"), "EnclaveID": f"i-0123456789abcdef0-enc{keeps:x}",
               "ProcessID": keeps, "EnclaveCID": int(option("--enclave-cid") or 18),
               "NumberOfCPUs": int(option("--cpu-count")), "CPUIDs": [1, 3], "MemoryMiB": int(option("--memory"))}
    store(enclaves() + [{**enclave, "State": "RUNNING", "Flags": "NONE"}])
    if not mood().startswith("late "):
        print(json.dumps(enclave, indent=2))


def terminate_enclave():
    ended = option("--enclave-id")
    if ended not in [e["EnclaveID"] for e in enclaves()]:
        sys.exit("[ E39 ] Enclave process connection failure.")
    for one in [e for e in enclaves() if e["EnclaveID"] == ended]:
        os.kill(one["ProcessID"], signal.SIGKILL)
    store([e for e in enclaves() if e["EnclaveID"] != ended])
    print("Successfully terminated enclave.", file=sys.stderr)
    print(json.dumps({"EnclaveID": ended, "Terminated": True}))


def nitro_cli():
    if mood() == "slow":
        time.sleep(3600)
    command = ARGUMENTS[0]
    if command == "run-enclave":
        run_enclave()
    elif command == "describe-enclaves":
        if mood() == "deaf":
            sys.exit("[ E49 ] Socket error.")
        if mood() == "forgetful":
            write(f"{FOLDER}/nitro-cli.mood", "")
            print("[]")
            return
        print(json.dumps(enclaves(), indent=2))
    elif command == "terminate-enclave":
        terminate_enclave()
    else:
        sys.exit(f"unknown command {command}")


write(f"{FOLDER}/{PROGRAM}.calls", json.dumps(ARGUMENTS) + "\n", "a")
{"qemu": qemu, "vhost": vhost, "nitro-cli": nitro_cli}[PROGRAM]()
