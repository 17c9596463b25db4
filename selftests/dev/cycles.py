#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""cycles.py [CYCLES]: VFs made, claimed and given to an IOMMU domain by programs that are killed, again and again.

In each of CYCLES a file of VFs is applied to an igb, an NVMe or both, functions are claimed, one of them is attached to a
domain with memory mapped into it, and all is taken back; each of these programs is killed at a random moment. Then what
was interrupted is recovered. Afterwards there is nothing that was not there before: no VF, no override, no driver, no claim, no
set of VFs, no domain, no mapping, no pin, no use of the module.
"""
import collections
import fcntl
import os
import random
import signal
import struct
import sys
import time

from host import PCI, done, find, find_nvme, kill_after, link, modprobe, ok, qmp, read, run, wait

SRIOV_DIR, CLAIM_DIR = "/tmp/cycles/sriov", "/tmp/cycles/claims"
PAGE = 4096
NR_PAGES = 64

counts = collections.Counter()


# ---- what there is ----------------------------------------------------------------------


def functions():
    return {a: (link(PCI + a + "/driver"), read(PCI + a + "/driver_override"), read(PCI + a + "/sriov_numvfs"),
                read(PCI + a + "/reset_method"), link(PCI + a + "/iommu_group")) for a in sorted(os.listdir(PCI))}


def fdinfo(fd, name):
    for line in read("/proc/self/fdinfo/%d" % fd).splitlines():
        if line.startswith("vmplat-%s:" % name):
            return int(line.split()[1])


def number(address):
    domain, bus, rest = address.split(":")
    dev, fn = rest.split(".")
    return int(domain, 16) << 16 | int(bus, 16) << 8 | int(dev, 16) << 3 | int(fn, 16)


def sets(dev, pf):
    """Generation of the PF's set of VFs, and how many it has."""
    buf = bytearray(struct.pack("<IIQQIIII16s32s64s", 152, 0, number(pf), 0, 0, 0, 0, 0, b"", b"", b""))
    fcntl.ioctl(dev, 0xb7a3, buf, True)
    return struct.unpack("<QI", buf[16:28])


def open_claims():
    """Numbers of claims that have not ended, from the journal itself."""
    open_ = []
    for line in (read(CLAIM_DIR + "/journal") or "").splitlines():
        word, id_ = line.split()[2:4]
        if word == "begin":
            open_.append(id_[3:])
        elif word == "end":
            open_.remove(id_[3:])
    return open_


class State:
    """All that a cycle could leave behind, to be compared. A domain would be a use of the module."""

    def __init__(self, dev, mem, pfs):
        self.found = {
            "functions": functions(),
            "claims": open_claims(),
            "sets": [sets(dev, pf) for pf in pfs],
            "pins": (fdinfo(mem, "pins"), fdinfo(mem, "device-pages")),
            "module": read("/sys/module/vmplat/refcnt"),
        }

    def unlike(self, other):
        """Only what differs."""
        diff = {}
        for key, was in other.found.items():
            now = self.found[key]
            if key == "functions":
                was, now = [{a: x.get(a) for a in set(was) | set(now) if was.get(a) != now.get(a)} for x in (was, now)]
            if now != was:
                diff[key] = {"was": was, "is": now}
        return diff


# ---- programs that are killed --------------------------------------------------------------


def use_domain(dev, mem, address, told):
    """In a process of its own: a domain, a mapping, the function attached; then wait for the end."""
    buf = bytearray(struct.pack("<IIiI", 16, 0, -1, 0))
    fcntl.ioctl(dev, 0xb706, buf, True)
    domain = struct.unpack("<IIiI", buf)[2]
    fcntl.ioctl(domain, 0xb782, bytearray(struct.pack("<IIiIQQQ", 40, 3, mem, 0, 1 << 30, 0, NR_PAGES * PAGE)), True)
    os.write(told, b"m")
    unsafe_interrupts = 2
    fcntl.ioctl(domain, 0xb780, bytearray(struct.pack("<IIQIIQII32s", 72, unsafe_interrupts, number(address), 0, 0, 0, 0, 0,
                                                     b"")), True)
    os.write(told, b"a")
    signal.pause()


def domain_killed(rng, dev, mem, address):
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            use_domain(dev, mem, address, tell)
        finally:
            os._exit(1)
    os.close(tell)
    heard = b""
    if rng.random() < 0.5:      # once it has come that far, or failed to
        heard = os.read(told, 1) + os.read(told, 1)
    else:
        time.sleep(rng.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    heard += os.read(told, 2)
    os.close(told)
    counts["domains killed"] += 1
    counts["mapped"] += b"m" in heard
    counts["attached"] += b"a" in heard


# ---- a cycle ---------------------------------------------------------------------------------


class Cycle:
    def __init__(self, rng, igb, nvme, edu):
        self.rng, self.igb, self.nvme, self.edu = rng, igb, nvme, edu
        self.dev = os.open("/dev/vmplat", os.O_RDWR)
        buf = bytearray(struct.pack("<IIQiI", 24, 1, NR_PAGES * PAGE, -1, 0))
        fcntl.ioctl(self.dev, 0xb701, buf, True)
        self.mem = struct.unpack("<IIQiI", buf)[3]
        self.took = {"apply": 0.5, "add": 0.2, "release": 0.2, "destroy": 0.2}
        self.before = self.state()

    def state(self):
        return State(self.dev, self.mem, [self.igb, self.nvme])

    def vmplat(self, what, argv, text="", certain=0.3):
        """Killed or not; how long it takes unkilled is learnt on the way."""
        start = time.time()
        limit = None if self.rng.random() < certain else self.rng.uniform(0, 1.1 * self.took[what])
        if kill_after(limit, "vmplat", *argv, text=text):
            counts[what + " killed"] += 1
        elif limit is None:
            self.took[what] = 0.7 * self.took[what] + 0.3 * (time.time() - start)

    def file(self, pfs):
        text = ""
        for pf in pfs:
            nr = self.rng.randint(1, 3)
            text += "[pf %s]\nnumvfs = %d\ndriver = %s\n" % (pf, nr, self.rng.choice(["vfio-pci", "vfio-pci", "none"]))
            if pf == self.igb:
                text += "[vf 0]\nmac = 02:00:00:00:00:10\nvlan = %d\n" % self.rng.randint(1, 4000)
        return text

    def functions(self, pfs):
        """What may be claimed: VFs, and a device of its own."""
        vfs = [link(PCI + pf + "/" + n) for pf in pfs for n in sorted(os.listdir(PCI + pf)) if n.startswith("virtfn")]
        return self.rng.sample(vfs + [self.edu], 1 + self.rng.randint(0, min(1, len(vfs))))

    def run(self):
        rng = self.rng
        # igb takes seconds to get its link back, emulated
        pfs = rng.choices([[self.nvme], [self.igb], [self.igb, self.nvme]], [8, 1, 1])[0]
        self.vmplat("apply", ["sriov", "apply", "--dir", SRIOV_DIR, "-"], self.file(pfs))
        devices = self.functions(pfs)
        self.vmplat("add", ["claim", "add", "--dir", CLAIM_DIR] + devices)
        for d in devices:
            if rng.random() < 0.7:
                domain_killed(rng, self.dev, self.mem, d)
        for c in open_claims():
            self.vmplat("release", ["claim", "release", "--dir", CLAIM_DIR, c])
        self.vmplat("destroy", ["sriov", "destroy"] + pfs)

    def recover(self):
        """What was interrupted, and then what was not: errors."""
        tried = [run("vmplat", "claim", "recover", "--dir", CLAIM_DIR), run("vmplat", "sriov", "recover", "--dir", SRIOV_DIR)]
        tried += [run("vmplat", "claim", "release", "--dir", CLAIM_DIR, c) for c in open_claims()]
        tried += [run("vmplat", "sriov", "destroy", pf) for pf in (self.igb, self.nvme) if read(PCI + pf + "/sriov_numvfs") != "0"]
        return [(p.args, p.stderr) for p in tried if p.returncode]

    def left(self):
        return self.state().unlike(self.before)


def killed():
    return sum(n for what, n in counts.items() if what in ("apply killed", "add killed", "release killed", "destroy killed"))


def seen():
    """Whether something was killed, and a device attached to mapped memory."""
    return killed() and counts["mapped"] and counts["attached"]


def enough(nr, cycles):
    """Chance decides what a cycle does: a few more until all of it was seen."""
    return nr >= cycles and seen() or nr >= 20 * cycles


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    run("mount", "-t", "tmpfs", "none", "/var/lib")
    qmp("device_add", {"driver": "igb", "id": "igb0", "bus": "rp1"})
    qmp("device_add", {"driver": "nvme", "id": "nvme1", "bus": "rp4", "serial": "sriov", "subsys": "sub0",
                       "sriov_max_vfs": 4, "sriov_vq_flexible": 8, "sriov_vi_flexible": 4, "max_ioqpairs": 18,
                       "msix_qsize": 17})
    modprobe("igb", "nvme", "vfio-pci", "vfio_iommu_type1")
    igb, nvme, edu = find(0x8086, 0x10c9), find_nvme(), find(0x1234, 0x11e8)
    wait(lambda: os.path.exists(PCI + igb + "/net"))
    c = Cycle(random.Random(seed), igb, nvme, edu)
    print("# SEED=%d" % seed, flush=True)
    start = time.time()
    nr = 0
    while not enough(nr, cycles):
        c.run()
        errors, left = c.recover(), c.left()
        if errors or left:
            ok(False, "cycle %d leaves nothing behind" % nr, (errors, left))
            break
        nr += 1
        if nr % 50 == 0:
            print("# %d cycles, %.0f s: %s" % (nr, time.time() - start, dict(counts)), flush=True)
    else:
        ok(True, "%d cycles leave nothing behind, in %.0f s" % (nr, time.time() - start))
    print("# %s" % dict(counts), flush=True)
    ok(killed(), "programs were killed in their midst")
    ok(counts["mapped"] and counts["attached"], "with memory mapped and a device attached, too")
    os.close(c.mem)
    os.close(c.dev)
    run("umount", "/var/lib")
    done()


main()
