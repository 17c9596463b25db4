#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""claim.py [CYCLES]: devices are claimed and given back, and whatever happens meanwhile they are as before.

What a PCI function was (driver, override, reset methods, VFs) is compared for all functions of the host. In each of
CYCLES a claim or a release of some devices is killed at a random moment, and what is left is recovered.
"""
import json
import os
import random
import subprocess
import sys
import time
import zlib

from host import PCI, SRC, done, find, link, modprobe, ok, plug, qmp, read, run, same, wait, write

DIR = "/tmp/claims"
JOURNAL = DIR + "/journal"


def driver(address):
    return link(PCI + address + "/driver")


def host_state():
    """What every function is like."""
    return {a: (driver(a), read(PCI + a + "/driver_override"), read(PCI + a + "/reset_method"),
                read(PCI + a + "/sriov_numvfs")) for a in sorted(os.listdir(PCI))}


def differences(before):
    now = host_state()
    return {a: (before.get(a), now.get(a)) for a in sorted(set(before) | set(now)) if before.get(a) != now.get(a)}


def unchanged(before, what):
    left = differences(before)
    return ok(not left, what + ": all as before", left)


def claim(verb, *argv, where=DIR):
    return run("vmplat", "claim", verb, "--dir", where, *argv)


def add(*argv):
    """A claim's number."""
    p = claim("add", *argv)
    if p.returncode:
        raise RuntimeError("claim add %s: %s" % (" ".join(argv), p.stderr))
    return int(p.stdout)


def claims():
    return json.loads(claim("list", "--json").stdout)


def plan(*argv):
    p = claim("add", "--dry-run", "--json", *argv)
    return json.loads(p.stdout), p.returncode


def blockers(*argv):
    return sorted(f["name"] for f in plan(*argv)[0]["findings"] if f["severity"] == "blocker")


def refused(before, what, *argv):
    """A claim that is not possible changes nothing."""
    p = claim("add", *argv)
    ok(p.returncode == 1, what + ": refused", p.stdout + p.stderr)
    unchanged(before, what)
    return p.stderr


class Devices:
    """What is plugged: a network card, a disk, a random number generator; and edu, there since boot."""

    def __init__(self):
        self.igb, self.nvme = plug()
        qmp("device_add", {"driver": "virtio-rng-pci", "id": "rng0", "bus": "rp3"})
        modprobe("vfio-pci", "pci-stub", "virtio_pci")
        self.edu = find(0x1234, 0x11e8)
        self.rng = find(0x1af4, 0x1044)
        wait(lambda: driver(self.rng))
        self.net = os.listdir(PCI + self.igb + "/net")[0]
        self.quick = [self.edu, self.nvme, self.rng]    # igb takes seconds to come up, emulated


# ---- one by one -------------------------------------------------------------------------


def test_plan(d, before):
    p, rc = plan(d.igb, d.nvme)
    same((p["devices"], p["blocked"], rc, len(p["steps"])), ([d.igb, d.nvme], False, 0, 6), "a plan of two devices")
    unchanged(before, "a plan")
    ok(not os.path.exists(JOURNAL), "and there is no journal for it")
    bridge = os.path.basename(os.path.dirname(os.path.realpath(PCI + d.igb)))
    same(blockers(bridge), ["bridge"], "a bridge is not claimed")
    p = plan("00:1f.2", "--driver", "pci-stub")[0]
    same(p["devices"], ["0000:00:1f.2", "0000:00:1f.0", "0000:00:1f.3"], "the rest of the group goes along")
    same(claim("add", "99:00.0").returncode, 1, "a device that is not there")
    same(claim("add", d.igb, "--force", "mounted").returncode, 1, "what cannot be forced")
    same(claim("add").returncode, 2, "no device")


def test_in_use(d, before):
    run("mkfs.ext4", "-q", "/dev/nvme0n1")
    os.makedirs("/tmp/mnt", exist_ok=True)
    run("mount", "/dev/nvme0n1", "/tmp/mnt")
    same(blockers(d.igb, d.nvme), ["mounted"], "a mounted disk is in the way")
    refused(before, "a mounted disk", d.igb, d.nvme)
    run("umount", "/tmp/mnt")
    run("ip", "link", "set", d.net, "up")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", d.net)
    run("ip", "route", "add", "default", "via", "192.0.2.2")
    same(blockers(d.igb), ["default-route"], "a default route is in the way")
    refused(before, "a default route", d.igb)
    n = add(d.igb, "--force", "default-route")
    same(driver(d.igb), "vfio-pci", "unless it is forced")
    claim("release", str(n))
    unchanged(before, "forced and released")
    wait(lambda: os.path.exists(PCI + d.igb + "/net"))
    write(PCI + d.igb + "/sriov_drivers_autoprobe", "0")
    write(PCI + d.igb + "/sriov_numvfs", "1")
    same(blockers(d.igb), ["vfs"], "VFs are in the way")
    vf = os.path.basename(os.readlink(PCI + d.igb + "/virtfn0"))
    n = add(vf)
    same(driver(vf), "vfio-pci", "a VF is claimed")
    claim("release", str(n))
    same(driver(vf), None, "and has no driver again")
    write(PCI + d.igb + "/sriov_numvfs", "0")
    unchanged(before, "VFs gone")


def test_owners(d, before):
    a = add(d.igb, d.nvme, "--owner", "a")
    same([driver(d.igb), driver(d.nvme)], ["vfio-pci"] * 2, "claimed")
    same(add(d.nvme, d.igb, "--owner", "a"), a, "claiming it again gives the same claim")
    same(blockers(d.igb, "--owner", "b"), ["claimed"], "another owner cannot have it")
    same(blockers(d.igb, "--owner", "a"), ["claimed"], "nor the owner a part of it")
    same(claim("release", str(a), "--owner", "b").returncode, 1, "another owner cannot release it")
    same(claim("release", d.igb, "--owner", "b").returncode, 1, "nor by device")
    c = claims()
    same([(x["id"], x["owner"], x["state"], [y["before"]["driver"] for y in x["devices"]]) for x in c],
         [(a, "a", "held", ["igb", "nvme"])], "list")
    same(claim("release", str(a), "--owner", "a").returncode, 0, "released")
    unchanged(before, "released")
    same(claim("release", str(a), "--owner", "a").returncode, 0, "a second time is no error")
    b = add(d.igb, d.nvme, "--owner", "b")
    ok(b > a, "numbers are not used again", (a, b))
    held = host_state()
    same(claim("release", str(a), "--owner", "a").returncode, 0, "a stale release of the first claim")
    unchanged(held, "does nothing to the second")
    same(claim("release", str(b + 1)).returncode, 1, "a claim that never was")
    same(claim("release", d.nvme, "--owner", "b").returncode, 0, "released by device")
    unchanged(before, "released by device")


def test_open(d, before):
    n = add(d.igb)
    group = os.path.basename(os.readlink(PCI + d.igb + "/iommu_group"))
    with open("/dev/vfio/" + group, "rb+", buffering=0):
        held = host_state()
        p = claim("release", str(n))
        ok(p.returncode == 1 and "open" in p.stderr, "a group that is open stays", p.stderr)
        unchanged(held, "an open group")
        same(claims()[0]["state"], "held", "and is held")
    same(claim("release", str(n)).returncode, 0, "closed, it is released")
    unchanged(before, "closed and released")


def test_failure(d, before):
    """igb takes its own card, and not the disk."""
    error = refused(before, "a driver that takes only the first", d.igb, d.nvme, "--driver", "igb")
    ok(d.nvme in error, "the error names the device", error)
    refused(before, "a driver that is not there", d.igb, "--driver", "no-such-driver")
    same(claims(), [], "no claim is left")
    wait(lambda: os.path.exists(PCI + d.igb + "/net"))


def test_reset(d, before):
    methods = read(PCI + d.igb + "/reset_method").split()
    n = add(d.igb, "--reset", methods[-1])
    same(read(PCI + d.igb + "/reset_method"), methods[-1], "reset methods are set")
    claim("release", str(n))
    unchanged(before, "reset methods")


def test_override(d, before):
    """What was set by hand before is there again; what is set by hand meanwhile stays."""
    write(PCI + d.edu + "/driver_override", "pci-stub")
    write("/sys/bus/pci/drivers_probe", d.edu)
    by_hand = host_state()
    same(by_hand[d.edu][:2], ("pci-stub", "pci-stub"), "bound by hand")
    claim("release", str(add(d.edu)))
    unchanged(by_hand, "bound by hand, claimed, released")
    n = add(d.edu)
    write(PCI + d.edu + "/driver_override", "somebody-else")
    p = claim("release", str(n))
    ok(p.returncode == 0 and "somebody" in p.stderr, "somebody else's override is told", p.stderr)
    same((driver(d.edu), read(PCI + d.edu + "/driver_override")), ("vfio-pci", "somebody-else"), "and left alone")
    write(PCI + d.edu + "/driver/unbind", d.edu)
    write(PCI + d.edu + "/driver_override", "\n")
    unchanged(before, "cleaned by hand")


def test_gone(d, before):
    """The device is pulled while it is claimed, and plugged again: another one, or the same in another state."""
    n = add(d.rng)
    p = subprocess.Popen([SRC + "/selftests/host/qmp", "--wait", "DEVICE_DELETED", "device_del",
                          json.dumps({"id": "rng0"})], stdout=subprocess.DEVNULL)
    p.wait()
    wait(lambda: not os.path.exists(PCI + d.rng))
    r = claim("release", str(n))
    ok(r.returncode == 0 and "gone" in r.stderr, "a device that was pulled", r.stderr)
    same(claims(), [], "its claim ends")
    qmp("device_add", {"driver": "virtio-rng-pci", "id": "rng0", "bus": "rp3"})
    end = time.time() + 20
    wait(lambda: driver(d.rng) or time.time() > end)
    if not driver(d.rng):
        print("# the kernel did not notice the plug: there %s" % os.path.exists(PCI + d.rng), flush=True)
        write("/sys/bus/pci/rescan", "1")
        wait(lambda: driver(d.rng))
    unchanged(before, "plugged again")


# ---- the journal ------------------------------------------------------------------------------


def records():
    with open(JOURNAL, "rb") as f:
        return f.read().splitlines(True)


def record(text):
    return b"%08x %s\n" % (zlib.crc32(text), text)


def record_number():
    return int(records()[-1].split()[1])


def test_reboot(d, before):
    add(d.igb)
    lines = records()
    boot = read("/proc/sys/kernel/random/boot_id").encode()
    with open(JOURNAL, "wb") as f:
        f.write(b"".join(record(l[9:-1].replace(boot, b"0" * 36)) for l in lines))
    held = host_state()
    p = claim("recover")
    ok(p.returncode == 0 and "last boot" in p.stderr, "the claim of another boot ends", p.stderr)
    same(claims(), [], "and is gone")
    unchanged(held, "nothing is done to its device")
    # by hand, what a reboot would have done
    write(PCI + d.igb + "/driver_override", "igb")
    write(PCI + d.igb + "/driver/unbind", d.igb)
    write("/sys/bus/pci/drivers_probe", d.igb)
    write(PCI + d.igb + "/driver_override", "\n")
    unchanged(before, "after the reboot")


def test_damage(d, before):
    n = add(d.edu)
    whole = b"".join(records())
    with open(JOURNAL, "ab") as f:
        f.write(record(b"99999 release id=1")[:-4])
    same(len(claims()), 1, "a torn end is no record")
    claim("recover")
    same(b"".join(records()), whole, "and is cut off")
    half = len(whole) // 2
    with open(JOURNAL, "wb") as f:
        f.write(whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1:])
    p = claim("release", str(n))
    ok(p.returncode == 1 and "damaged" in p.stderr, "damage in the middle is an error", p.stderr)
    with open(JOURNAL, "wb") as f:
        f.write(whole)
    claim("release", str(n))
    unchanged(before, "the journal mended, and released")


def test_long(d, before):
    """A long journal is replaced by a short one: what is held stays held, and numbers go on."""
    held = add(d.edu)
    last = record_number()
    with open(JOURNAL, "ab") as f:
        for i in range(700):
            n = 100 + i
            for text in (b"begin id=%d owner=x driver=vfio-pci reset= boot=y" % n, b"end id=%d" % n):
                last += 1
                f.write(record(b"%d %s" % (last, text)))
    claim("recover")
    ok(os.path.getsize(JOURNAL) < 4096, "a long journal becomes short", os.path.getsize(JOURNAL))
    same([c["id"] for c in claims()], [held], "what is held stays")
    claim("release", str(held))
    unchanged(before, "released after that")
    n = add(d.edu)
    same(n, 800, "numbers go on")
    claim("release", str(n))


def test_full(d, before):
    """The journal's disk gets full."""
    os.mkdir("/tmp/small")
    run("mount", "-t", "tmpfs", "-o", "size=4k", "none", "/tmp/small")
    held, full = [], False
    while not full:
        p = claim("add", d.edu, where="/tmp/small")
        held.append(p.stderr)
        if not p.returncode:
            p = claim("release", p.stdout.strip(), where="/tmp/small")
        full = p.returncode
    ok("No space" in p.stderr, "the disk got full, after %d claims" % len(held), p.stderr)
    run("mount", "-o", "remount,size=1m", "/tmp/small")
    same(claim("recover", where="/tmp/small").returncode, 0, "with more room it recovers")
    for c in json.loads(claim("list", "--json", where="/tmp/small").stdout):
        claim("release", str(c["id"]), where="/tmp/small")
    unchanged(before, "a full disk")
    run("umount", "/tmp/small")


# ---- killed ---------------------------------------------------------------------------------------


def kill_after(seconds, *argv):
    """True if it was killed in time."""
    p = subprocess.Popen(["vmplat", "claim"] + list(argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        p.wait(seconds)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return True
    return False


def typical(d):
    start = time.time()
    n = add(*d.quick)
    middle = time.time()
    claim("release", str(n))
    return middle - start, time.time() - middle


def cycle(d, rng, times):
    """Which of the two was killed; both get in the end to where they should."""
    devices = rng.sample(d.quick, rng.randint(1, len(d.quick))) + ([d.igb] if rng.random() < 0.2 else [])
    killed = kill_after(rng.uniform(0, times[0] * 2), "add", "--dir", DIR, *devices)
    claim("recover")
    held = claims()
    for c in held:
        if rng.random() < 0.7:
            killed |= kill_after(rng.uniform(0, times[1] * 2), "release", "--dir", DIR, str(c["id"]))
        claim("release", str(c["id"]))
    return killed, bool(held)


def test_killed(d, before, cycles):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    times = typical(d)
    killed = held = 0
    print("# SEED=%d, claiming takes %.2f s, releasing %.2f s" % ((seed,) + times), flush=True)
    for i in range(cycles):
        k, h = cycle(d, rng, times)
        killed += k
        held += h
        left = differences(before)
        if left or claims():
            ok(False, "cycle %d leaves nothing behind" % i, (left, claims()))
            return
    ok(True, "%d cycles, %d with a kill, %d where the claim was held before: nothing is left" % (cycles, killed, held))
    ok(killed, "some were killed in time", killed)


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    d = Devices()
    before = host_state()
    for test in (test_plan, test_in_use, test_owners, test_open, test_failure, test_reset, test_override, test_gone,
                 test_reboot, test_damage, test_long, test_full):
        test(d, before)
    test_killed(d, before, cycles)
    return done()


sys.exit(main())
