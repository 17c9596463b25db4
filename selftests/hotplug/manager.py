#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""vmplat hotplug on a real kernel: real plugs through QMP, a policy applied, followed, undone, and killed -9 at random.

Nothing may be left unexplained: whatever is killed when, the journal's changes of an object follow one another without
a gap, and undoing all of them brings the state of the beginning.
"""
import glob
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
SRC = os.environ["VMPLAT_SRC"]
sys.path.insert(0, SRC + "/selftests")
from tap import done, ok, skip

LIMIT = 120
CPUS, MEMORY, PCI = "/sys/devices/system/cpu", "/sys/devices/system/memory", "/sys/bus/pci/devices"


def qmp(command, arguments=None):
    argv = [SRC + "/selftests/host/qmp", command] + ([json.dumps(arguments)] if arguments else [])
    p = subprocess.run(argv, capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError("%s: %s" % (command, p.stderr.strip()))
    return json.loads(p.stdout) if p.stdout.strip() else {}


def modprobe(name):
    """The kernel knows by which program its modules are found."""
    with open("/proc/sys/kernel/modprobe") as f:
        return subprocess.run([f.read().strip(), name], capture_output=True).returncode == 0


def read(path):
    with open(path) as f:
        return f.read().strip()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def wait(condition):
    """What is true in the end, or None when the time is over."""
    end = time.time() + LIMIT
    while time.time() < end:
        held = condition()
        if held:
            return held
        time.sleep(0.05)
    return None


def cpu(nr):
    return read("%s/cpu%d/online" % (CPUS, nr)) == "1"


def block(name):
    zones = read("%s/%s/valid_zones" % (MEMORY, name)).split()
    return "offline" if read("%s/%s/state" % (MEMORY, name)) == "offline" else zones[0]


def driver(address):
    link = "%s/%s/driver" % (PCI, address)
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else None


def override(address):
    return read("%s/%s/driver_override" % (PCI, address))


class Manager:
    """The command with a policy and a journal of its own."""

    def __init__(self, tmp):
        self.policy, self.journal = tmp + "/policy", tmp + "/var/journal"

    def rules(self, *rules):
        write(self.policy, "\n".join(rules) + "\n")

    def argv(self, verb, *args):
        argv = ["vmplat", "hotplug", verb]
        if verb in ("check", "plan", "apply"):
            argv += ["-p", self.policy]
        if verb in ("apply", "log", "undo"):
            argv += ["-J", self.journal]
        return argv + list(args)

    def run(self, verb, *args):
        p = subprocess.run(self.argv(verb, *args), capture_output=True, text=True)
        p.all = p.stdout + p.stderr
        return p

    def changes(self, verb, *args):
        p = self.run(verb, "--json", *args)
        p.changes = [json.loads(line) for line in p.stdout.splitlines()]
        return p

    def unexplained(self):
        """What is wrong with the account that the journal gives."""
        last = {}
        for c in self.changes("log").changes:
            if c["result"] == "unfinished":
                return "unfinished: %s" % c
            if last.get(c["object"], c["before"]) != c["before"]:
                return "a gap before %s" % c
            last[c["object"]] = c.get("now")
        return None


class Follower:
    """apply --follow, and the changes it makes."""

    def __init__(self, m):
        self.err = tempfile.TemporaryFile("w+")
        self.p = subprocess.Popen(m.argv("apply", "--follow", "--json"), stdout=subprocess.PIPE, stderr=self.err, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        for line in self.p.stdout:
            self.lines.put(json.loads(line))

    def wait(self, what, name, result="done"):
        seen, end = [], time.time() + LIMIT
        while time.time() < end:
            try:
                c = self.lines.get(timeout=1)
            except queue.Empty:
                continue
            if c["object"] == name and c["result"] == result:
                return ok(True, what)
            seen.append(c)
        return ok(False, what, "it did not come; but: %s; %s" % (seen, self.said()))

    def said(self):
        self.err.seek(0)
        return self.err.read()


def plug_pci(ident, bus):
    """A virtio-rng device on a root port; the address it gets, once its own driver has it."""
    before = set(os.listdir(PCI))
    qmp("device_add", {"driver": "virtio-rng-pci", "id": ident, "bus": bus})
    return wait(lambda: next((a for a in set(os.listdir(PCI)) - before), None))


def unplug(ident, gone):
    qmp("device_del", {"id": ident})
    wait(lambda: not os.path.exists(gone))


def plug_dimm(ident, size):
    """The names of its memory blocks, which are offline."""
    before = set(glob.glob(MEMORY + "/memory*"))
    qmp("object-add", {"qom-type": "memory-backend-ram", "id": "m-" + ident, "size": size})
    qmp("device_add", {"driver": "pc-dimm", "id": ident, "memdev": "m-" + ident})
    nr = size // int(read(MEMORY + "/block_size_bytes"), 16)
    wait(lambda: len(set(glob.glob(MEMORY + "/memory*")) - before) == nr)
    return sorted((os.path.basename(b) for b in set(glob.glob(MEMORY + "/memory*")) - before), key=lambda b: int(b[6:]))


def test_words(m):
    m.rules("cpu => leave", "pci => vm web")
    p = m.run("check")
    ok(p.returncode == 1 and "policy: line 2: a PCI device cannot be handed to a VM" in p.stderr, "a wrong policy", p.all)
    ok(m.run("apply").returncode == 1 and not os.path.exists(m.journal), "nothing is applied of it")
    m.rules("cpu number=1 => offline")
    ok(m.run("check").stdout.endswith("policy: 1 rule\n"), "a good one")
    os.chmod(os.path.dirname(m.policy), 0o755)
    # where the checkout is, nobody may look
    for f in ("bin/vmplat", "lib/libvmplat.so.0"):
        shutil.copy("%s/build/user/%s" % (SRC, f), os.path.dirname(m.policy))
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env",
              "LD_LIBRARY_PATH=" + os.path.dirname(m.policy), os.path.dirname(m.policy) + "/vmplat"]
    p = subprocess.run(nobody + m.argv("plan")[1:], capture_output=True, text=True)
    ok(p.returncode == 0 and "echo 0 > /sys/devices/system/cpu/cpu1/online" in p.stdout, "anybody may plan",
       p.stdout + p.stderr)
    p = subprocess.run(nobody + m.argv("apply")[1:], capture_output=True, text=True)
    ok(p.returncode == 1 and "changing hardware needs root" in p.stderr, "nobody may not write the journal", p.stderr)
    p = subprocess.run(nobody + ["hotplug", "apply", "-p", m.policy, "-J", "/tmp/nobody/journal"],
                       capture_output=True, text=True)
    ok(p.returncode == 1 and "cpu1/online: Permission denied; changing hardware needs root" in p.stderr and cpu(1),
       "nobody may not write to sysfs", p.stderr)


def test_straight(m, address, blocks):
    m.rules("cpu number=1 => offline", "memory block=%s => online_movable" % blocks[0][6:],
            "pci address=%s => driver pci-stub" % address)
    p = m.run("plan")
    ok("there is no PCI driver pci-stub" in p.stdout, "a driver that is not loaded", p.all)
    modprobe("pci-stub")
    p = m.run("plan")
    ok("'rebind' in line 3" in p.stdout, "a device that has a driver", p.all)
    m.rules("cpu number=1 => offline", "memory block=%s => online_movable" % blocks[0][6:],
            "pci address=%s => driver pci-stub rebind" % address)
    p = m.run("plan", "--json")
    ok([c["object"] for c in json.loads(p.stdout)["changes"]] == ["cpu1", blocks[0], address], "the plan", p.all)
    ok(cpu(1) and block(blocks[0]) == "offline" and driver(address) == "virtio-pci", "which changes nothing")
    p = m.changes("apply")
    ok(p.returncode == 0 and [c["result"] for c in p.changes] == ["done"] * 3, "apply", p.all)
    ok(not cpu(1) and block(blocks[0]) == "Movable" and driver(address) == "pci-stub", "it is so",
       (cpu(1), block(blocks[0]), driver(address)))
    p = m.run("apply")
    ok(p.returncode == 0 and p.stdout == "Nothing to change.\n", "apply again", p.all)
    write(CPUS + "/cpu1/online", "1")
    write(CPUS + "/cpu1/online", "0")
    p = m.run("undo")
    ok(p.returncode == 0, "undo", p.all)
    ok(cpu(1) and block(blocks[0]) == "offline" and driver(address) == "virtio-pci" and override(address) == "(null)",
       "it is as before", (cpu(1), block(blocks[0]), driver(address), override(address)))
    p = m.run("undo")
    ok(p.returncode == 0 and p.stdout == "Nothing to undo.\n", "undo again", p.all)
    ok(m.unexplained() is None, "the journal has no gap", m.unexplained())


def test_changed(m, address):
    p = m.run("apply")
    write("%s/%s/driver/unbind" % (PCI, address), address)
    p = m.run("undo")
    ok(p.returncode == 1 and "somebody else has changed it since: it was left driver pci-stub" in p.stderr,
       "what somebody else has changed is left alone", p.all)
    ok(cpu(1) and driver(address) is None, "the rest is undone", p.all)
    write("/sys/bus/pci/drivers/pci-stub/bind", address)
    ok(m.run("undo").returncode == 0 and driver(address) == "virtio-pci", "and this too once it is as it was left")


def test_refusal(m, address):
    """vfio-pci without an IOMMU says no."""
    if not modprobe("vfio-pci"):
        return skip("there is no vfio-pci")
    before = len(m.changes("log").changes)
    m.rules("pci address=%s => driver vfio-pci rebind" % address)
    p = m.run("apply")
    ok(p.returncode == 1 and "vfio-pci/bind: Invalid argument" in p.stdout, "a driver that refuses", p.all)
    ok(driver(address) == "virtio-pci" and override(address) == "(null)", "the one of before is back", p.all)
    log = m.changes("log").changes[before:]
    ok(len(log) == 1 and log[0]["result"] == "failed" and log[0]["now"] == log[0]["before"], "and the journal says so", log)


def test_rezone(m, name):
    """Whether kernel memory can be emptied is not ours to say: that what is said is true is."""
    write("%s/%s/state" % (MEMORY, name), "online_kernel")
    before = block(name)
    m.rules("memory block=%s => online_movable rezone" % name[6:])
    p = m.changes("apply")
    c = p.changes[0]
    ok(c["result"] == ("done" if block(name) == "Movable" else "failed") and c["now"]["zone"] == block(name),
       "a block of zone %s is %s" % (before, block(name)), p.all)
    if c["result"] == "failed":
        ok(block(name) == before, "after a failure it is where it was", p.all)
    p = m.changes("undo")
    ok(block(name) == before, "undone, it is in zone %s" % before, p.all)
    subprocess.run(["sh", "-c", "echo offline > %s/%s/state" % (MEMORY, name)], capture_output=True)


def test_kills(m, address, blocks, rounds):
    seed = int.from_bytes(os.urandom(4), "little")
    print("# seed %d" % seed, flush=True)
    rng = random.Random(seed)
    m.journal += "-kills"
    m.rules("cpu number=1 => offline", "memory block=%s => online_movable" % blocks[0][6:],
            "pci address=%s => driver pci-stub rebind" % address)
    state = lambda: (cpu(1), block(blocks[0]), driver(address), override(address))
    before, took = state(), {}
    for verb, args in (("apply", []), ("undo", ["--all"])):
        start = time.time()
        m.run(verb, *args)
        took[verb] = time.time() - start
    if not ok(state() == before, "the way there and back takes %.2f s" % sum(took.values()), state()):
        return
    killed = recovered = 0
    wrong = None
    for nr in range(rounds):
        # mostly what there is something to be done by
        verb, args = ("apply", []) if state() == before else rng.choice((("apply", []), ("undo", ["--all"])))
        size = os.stat(m.journal).st_size
        p = subprocess.Popen(m.argv(verb, *args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # at any time, or once it has begun to change something
            while nr % 2 and os.stat(m.journal).st_size == size and p.poll() is None:
                pass
            p.wait(rng.uniform(0, took[verb] / (4 if nr % 2 else 1)))
        except subprocess.TimeoutExpired:
            p.kill()
            killed += p.wait() == -signal.SIGKILL
        if nr % 4 != 3:
            continue
        q = m.changes(rng.choice(("apply", "undo")))
        recovered += sum(c["result"] == "recovered" for c in q.changes)
        u = m.changes("undo", "--all")
        wrong = m.unexplained() or (u.returncode and u.all) or (state() != before and "%s, not %s" % (state(), before))
        if wrong:
            break
    ok(not wrong, "%d of %d calls were killed, all is explained and can be undone" % (killed, rounds), wrong)
    log = m.changes("log").changes
    print("# %d changes, %d were cut short" % (len(log), sum(c["result"] == "recovered" for c in log)), flush=True)
    ok(killed > rounds / 8, "enough of them were")


def plug_cpu():
    """The number of the CPU that comes, None where this kernel takes none."""
    free = [s for s in qmp("query-hotpluggable-cpus") if "qom-path" not in s]
    if not free or read(CPUS + "/possible") == read(CPUS + "/present"):
        return None
    before = set(glob.glob(CPUS + "/cpu[0-9]*"))
    qmp("device_add", dict(free[-1]["props"], driver=free[-1]["type"], id="hm-cpu"))
    new = wait(lambda: set(glob.glob(CPUS + "/cpu[0-9]*")) - before)
    return int(os.path.basename(new.pop())[3:]) if new else None


def links(verb, nr):
    """Many events within a short time."""
    lines = ["link %s st%d%s\n" % (verb, i, " type dummy" if verb == "add" else "") for i in range(nr)]
    subprocess.run(["ip", "-batch", "-"], input="".join(lines), text=True, check=True)


def test_follow(m, first):
    m.journal += "-follow"
    ids = "1af4:1044"
    rules = ["cpu number=2-3 => online", "memory range=0x100000000-0xffffffffff => online_movable",
             "pci id=%s address=%s.* => driver pci-stub rebind" % (ids, first.split(".")[0]), "net => leave"]
    m.rules(*rules)
    # a receive buffer that soon is full
    rmem = read("/proc/sys/net/core/rmem_default")
    write("/proc/sys/net/core/rmem_default", "4096")
    f = Follower(m)
    f.wait("a follower begins with what is there", first)
    ok(driver(first) == "pci-stub", "which is so")
    p = m.run("undo")
    ok(p.returncode == 1 and "is at work with the journal" in p.stderr, "nobody undoes what is being followed", p.all)

    names = plug_dimm("hm-m2", 128 << 20)
    f.wait("a memory block that is plugged comes online", names[0])
    ok(block(names[0]) == "Movable", "in zone Movable", block(names[0]))

    nr = plug_cpu()
    if ok(nr is not None, "the kernel takes a CPU that is plugged"):
        f.wait("a CPU that is plugged comes online", "cpu%d" % nr)
        ok(cpu(nr), "which is so")

    f.p.send_signal(signal.SIGSTOP)
    links("add", 40)
    write("%s/%s/driver/unbind" % (PCI, first), first)
    links("del", 40)
    f.p.send_signal(signal.SIGCONT)
    f.wait("it gets there though its events were lost", first)

    f.p.kill()
    f.p.wait()
    write("/proc/sys/net/core/rmem_default", rmem)
    write("%s/%s/driver/unbind" % (PCI, first), first)
    f = Follower(m)
    f.wait("killed and started again, it sees what was missed", first)
    m.rules("pci address=%s => nonsense" % first)
    f.p.send_signal(signal.SIGHUP)
    ok(wait(lambda: "policy of before is still followed" in f.said()), "a policy that became wrong is not taken", f.said())
    m.rules(*rules[:-1], "pci id=%s class=00ff => driver pci-stub rebind" % ids, "net => leave")
    f.p.send_signal(signal.SIGHUP)
    ok(wait(lambda: "read again, 5 rules" in f.said()), "a new policy is", f.said())
    # while the kernel is still giving it to the driver of its ids: it may be given back and taken again
    second = plug_pci("hm-2", "rp1")
    f.wait("a device that is plugged gets its driver", second)
    ok(wait(lambda: driver(second) == "pci-stub" and override(second) == "pci-stub"), "whoever was faster",
       (driver(second), override(second), m.run("log").stdout))
    f.p.terminate()
    ok(f.p.wait() == 0, "it ends when told to", f.said())
    p = m.run("undo", "--all")
    ok(p.returncode == 0 and driver(first) == "virtio-pci" and override(first) == "(null)" and block(names[0]) == "offline",
       "all of it is undone", p.all + m.run("log").stdout)
    if nr is not None:
        ok(not cpu(nr), "the CPU too")
        unplug("hm-cpu", "%s/cpu%d" % (CPUS, nr))
    ok(m.unexplained() is None or "driver" in m.unexplained(), "the journal has no gap but those made by hand",
       m.unexplained())
    log = m.changes("log").changes
    print("# %d changes, %d failed" % (len(log), sum(c["result"] == "failed" for c in log)), flush=True)


def timed(test, *args):
    start = time.time()
    test(*args)
    print("# %s: %.1f s" % (test.__name__, time.time() - start), flush=True)


def main():
    start = time.time()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    write(MEMORY + "/auto_online_blocks", "offline")
    with tempfile.TemporaryDirectory() as tmp:
        m = Manager(tmp)
        timed(test_words, m)
        address = plug_pci("hm-1", "rp4")
        wait(lambda: driver(address) == "virtio-pci")
        blocks = plug_dimm("hm-m1", 256 << 20)
        timed(test_straight, m, address, blocks)
        timed(test_changed, m, address)
        timed(test_refusal, m, address)
        timed(test_rezone, m, blocks[1])
        timed(test_kills, m, address, blocks, rounds)
        timed(test_follow, Manager(tmp), address)
        for ident in ("hm-1", "hm-2", "hm-m1", "hm-m2"):  # other tests may follow
            qmp("device_del", {"id": ident})
    print("# %.1f s" % (time.time() - start))
    done()


main()
