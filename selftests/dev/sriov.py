#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""sriov.py [CYCLES|module|netdevsim]: VFs are made, owned, given to drivers and attributes, and removed; nothing is left of what fails.

First the module, ioctl by ioctl, then "vmplat sriov". In each of CYCLES an apply is killed at a random moment and
recovered; VFs, overrides, IOMMU groups and claims are compared with what was before. "module" leaves the command out, for
a kernel that is slow. "netdevsim" has only the test of attributes, for a kernel that has this device.
"""
import contextlib
import errno
import fcntl
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time

from host import PCI, done, find, find_nvme, kill_after, link, modprobe, ok, qmp, read, run, same, wait, write
from tap import skip

DIR = "/tmp/sriov"
WHY = ["", "owned", "vfs", "changing", "pf-driver", "fewer", "not-bound", "open", "assigned"]


# ---- the module -------------------------------------------------------------------------


def number(address):
    domain, bus, rest = address.split(":")
    dev, fn = rest.split(".")
    return int(domain, 16) << 16 | int(bus, 16) << 8 | int(dev, 16) << 3 | int(fn, 16)


class Module:
    """The ioctls; each returns (errno as a name or "", what is in the way, its VF, ...)."""

    def __init__(self):
        self.fd = os.open("/dev/vmplat", os.O_RDWR)

    def call(self, nr, buf):
        try:
            fcntl.ioctl(self.fd, 0xb7 << 8 | nr, buf, True)
        except OSError as e:
            return errno.errorcode[e.errno]
        return ""

    def create(self, pf, nr, driver="", owner="test", label=b"label"):
        buf = bytearray(struct.pack("<IIQII16s32s64sQII", 152, 0, number(pf), nr, 0, label, driver.encode(),
                                    owner.encode(), 0, 0, 0))
        err = self.call(0xa0, buf)
        generation, vf, why = struct.unpack("<QII", buf[136:])
        return err, WHY[why], vf, generation

    def bind(self, generation, driver):
        buf = bytearray(struct.pack("<IIQ32sII", 56, 0, generation, driver.encode(), 0, 0))
        err = self.call(0xa1, buf)
        vf, why = struct.unpack("<II", buf[48:])
        return err, WHY[why], vf

    def destroy(self, generation):
        buf = bytearray(struct.pack("<IIQII", 24, 0, generation, 0, 0))
        err = self.call(0xa2, buf)
        vf, why = struct.unpack("<II", buf[16:])
        return err, WHY[why], vf

    def status(self, pf):
        buf = bytearray(struct.pack("<IIQQIIII16s32s64s", 152, 0, number(pf), 0, 0, 0, 0, 0, b"", b"", b""))
        err = self.call(0xa3, buf)
        out = struct.unpack("<QIIII16s32s64s", buf[16:])
        return (err, out[0], out[1], out[2]) + tuple(x.rstrip(b"\0").decode("latin1") for x in out[5:])

    def generation(self, pf):
        return self.status(pf)[1]


def vfs(pf):
    """Addresses, in order."""
    names = [n for n in os.listdir(PCI + pf) if n.startswith("virtfn")]
    return [link(PCI + pf + "/" + n) for n in sorted(names, key=lambda n: int(n[6:]))]


def drivers(pf):
    """Driver and override of each VF."""
    return [(link(PCI + v + "/driver"), read(PCI + v + "/driver_override").replace("(null)", "")) for v in vfs(pf)]


def module_users():
    return int(read("/sys/module/vmplat/refcnt"))


VFIO_SET_IOMMU, VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_GET_DEVICE_FD = [ord(";") << 8 | n for n in (102, 104, 106)]


@contextlib.contextmanager
def opened(vf, device):
    """The VF's group, and the VF itself, as a VMM has them."""
    fds = [os.open("/dev/vfio/vfio", os.O_RDWR), os.open("/dev/vfio/" + link(PCI + vf + "/iommu_group"), os.O_RDWR)]
    fcntl.ioctl(fds[1], VFIO_GROUP_SET_CONTAINER, struct.pack("i", fds[0]))
    fcntl.ioctl(fds[0], VFIO_SET_IOMMU, 1)
    if device:
        fds.append(fcntl.ioctl(fds[1], VFIO_GROUP_GET_DEVICE_FD, bytearray(vf.encode() + b"\0"), True))
    yield
    for fd in reversed(fds):
        os.close(fd)


class Events:
    """Which drivers VFs got, as the module's events told."""

    def __init__(self):
        self.seq = max([json.loads(x)["seq"] for x in run("vmplat", "events", "--state", "--json").stdout.splitlines()
                        if '"seq"' in x] or [0])
        self.p = subprocess.Popen(["vmplat", "events", "--since", str(self.seq), "--json", "--class", "vf"],
                                  stdout=subprocess.PIPE, text=True)

    def until_gone(self, count):
        """All (action, driver) until so many VFs were removed."""
        seen = []
        for line in self.p.stdout:
            e = json.loads(line)
            if e.get("kind") != "changed" or e.get("class") != "vf":
                continue
            seen.append((e["action"], e["vf"].get("driver")))
            if len([x for x in seen if x[0] == "remove"]) == count:
                break
        self.p.kill()
        self.p.wait()
        return seen


def test_straight(m, pf):
    """With the host's driver loaded: by hand it gets the VF, by the module it never sees one."""
    own = "igbvf"
    modprobe(own)
    events = Events()
    write(PCI + pf + "/sriov_numvfs", "1")
    by_hand = drivers(pf)
    same(m.create(pf, 2)[:2], ("EBUSY", "vfs"), "VFs that are there by hand are in the way")
    same(drivers(pf), by_hand, "and stay")
    write(PCI + pf + "/sriov_numvfs", "0")
    if by_hand[0][0] == own:
        ok(("bind", own) in events.until_gone(1), "made by hand, %s gets a VF" % own)
    else:
        events.until_gone(1)
        ok(True, "made by hand, %s gets a VF # SKIP it is not there" % own)
    events = Events()
    err, why, _, g = m.create(pf, 3, "vfio-pci")
    same((err, why, drivers(pf)), ("", "", [("vfio-pci", "vfio-pci")] * 3), "three VFs, ready when the call returns")
    same(m.destroy(g), ("", "", 0), "removed")
    seen = events.until_gone(3)
    same(sorted({d for a, d in seen if a == "bind"}), ["vfio-pci"], "no driver but the chosen one ever had them")
    same([a for a, _ in seen].count("bind"), 3, "each was bound once")


def test_owner(m, pf):
    idle = m.status(pf)
    same(idle[1:3] + idle[4:], (0, 0, "", "", ""), "a PF without VFs has no owner")
    users = module_users()
    err, _, _, a = m.create(pf, 2, "vfio-pci", "a", b"label of a")
    same((err, m.status(pf)[1:3] + m.status(pf)[4:]), ("", (a, 2, "label of a", "vfio-pci", "a")), "VFs of a")
    ok(module_users() > users, "they hold the module", module_users())
    same(m.create(pf, 2, "vfio-pci", "b")[:2], ("EBUSY", "owned"), "b cannot make VFs there")
    same(m.destroy(a - 1)[0], "ESTALE", "nor remove them by another generation")
    same(m.destroy(a)[0], "", "a removes them")
    same(module_users(), users, "and the module is free")
    # the interleaving: a's second release comes after b has made VFs of the same PF
    err, _, _, b = m.create(pf, 2, "vfio-pci", "b")
    ok(not err and b > a, "b makes VFs, with a greater generation", (err, a, b))
    before = drivers(pf)
    same((m.destroy(a)[0], m.bind(a, "")[0]), ("ESTALE", "ESTALE"), "a stale release of a")
    same((drivers(pf), m.generation(pf)), (before, b), "does nothing to the VFs of b")
    write(PCI + pf + "/sriov_numvfs", "0")
    same((m.generation(pf), module_users()), (0, users), "VFs removed by hand end the ownership")
    same(m.destroy(b)[0], "ESTALE", "and a late release of b")


def test_module(m, pf):
    same(m.create("0000:00:00.0", 1)[0], "EINVAL", "no PF")
    same(m.create("00ff:00:00.0", 1)[0], "ENODEV", "no function")
    same(m.create(pf, 100)[0], "ERANGE", "too many")
    same(m.create(pf, 0xffffffff)[0], "ERANGE", "far too many")
    same(m.create(pf, 0)[0], "EINVAL", "none")
    same(m.create(pf, 1, owner="")[0], "EINVAL", "no owner")
    same(m.create(pf, 1, "no driver")[0], "EINVAL", "no name of a driver")
    same(m.create(pf, 2, "no-such-driver"), ("ENODEV", "not-bound", 0, 0), "a driver that is not there")
    same((vfs(pf), m.generation(pf)), ([], 0), "leaves no VFs")
    g = m.create(pf, 3)[3]
    same(drivers(pf), [(None, "none")] * 3, "VFs for no driver")
    same(m.bind(g, "vfio-pci"), ("", "", 0), "given to a driver")
    same(drivers(pf), [("vfio-pci", "vfio-pci")] * 3, "all of them")
    same(m.bind(g, "no-such-driver"), ("ENODEV", "not-bound", 0), "to one that is not there")
    same(drivers(pf), [("vfio-pci", "vfio-pci")] * 3, "they stay with the one before")
    if os.path.exists("/dev/vfio/vfio"):
        for device in (False, True):
            with opened(vfs(pf)[1], device):
                before = drivers(pf)
                same(m.destroy(g), ("EBUSY", "open", 1), "a VF that is open is in the way")
                same(m.bind(g, ""), ("EBUSY", "open", 1), "of another driver, too")
                same((drivers(pf), m.generation(pf)), (before, g), "and all is as before")
    same(m.bind(g, ""), ("", "", 0), "taken from it")
    same(m.destroy(g), ("", "", 0), "removed")


def rebind(pf, name):
    write("/sys/bus/pci/drivers/%s/bind" % name, pf)
    wait(lambda: link(PCI + pf + "/driver") == name)


def test_pf_goes(m, igb, nvme):
    """The PF's driver leaves while there are VFs: igb takes them along, nvme leaves them there."""
    users = module_users()
    m.create(igb, 2, "vfio-pci")
    write(PCI + igb + "/driver/unbind", igb)
    same((m.generation(igb), module_users()), (0, users), "igb leaves: its VFs and their ownership are gone")
    same(m.create(igb, 1)[:2], ("ENOENT", "pf-driver"), "without it none can be made")
    rebind(igb, "igb")
    wait(lambda: os.path.exists(PCI + igb + "/net"))
    g = m.create(nvme, 2, "vfio-pci")[3]
    write(PCI + nvme + "/driver/unbind", nvme)
    same((m.generation(nvme), len(vfs(nvme))), (g, 2), "nvme leaves: they are there, and owned")
    same(m.destroy(g)[:2], ("ENOENT", "pf-driver"), "but cannot be removed")
    same((m.generation(nvme), drivers(nvme)), (g, [("vfio-pci", "vfio-pci")] * 2), "and are as before")
    rebind(nvme, "nvme")
    same(m.destroy(g), ("", "", 0), "until it is back")


def test_together(m, pf):
    """Many at once make, give, remove: whoever succeeds is alone, and nothing is left."""
    users, won, errors = module_users(), [], set()

    def work(seed):
        rng = random.Random(seed)
        for _ in range(3):
            err, why, _, g = m.create(pf, rng.randint(1, 3), rng.choice(["", "vfio-pci"]), "w%d" % seed)
            errors.add((err, why))
            if err:
                continue
            won.append(g)
            errors.add(m.destroy(g)[:2])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ok(won and len(set(won)) == len(won), "at least one had VFs, each a generation of its own", won)
    ok(errors <= {("", ""), ("EBUSY", "owned"), ("EBUSY", "vfs"), ("EBUSY", "changing")}, "the others were told", errors)
    same((vfs(pf), m.generation(pf), module_users()), ([], 0, users), "nothing is left")


def at_once(*calls):
    """What each returns, called by a thread of its own."""
    results = [None] * len(calls)

    def work(i):
        results[i] = calls[i]()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_same_set(m, pf):
    """Commands that meet on one set, and VFs that go by hand under a command."""
    users, errors = module_users(), set()

    def bind_until(removed, g):
        while not removed.is_set():
            m.bind(g, "vfio-pci")
            m.bind(g, "")

    def remove_by_hand(removed):
        time.sleep(0.05)
        try:
            write(PCI + pf + "/sriov_numvfs", "0")
        finally:
            removed.set()
    for _ in range(3):
        g = m.create(pf, 3, "vfio-pci")[3]
        results = at_once(lambda: m.bind(g, ""), lambda: m.bind(g, "vfio-pci"), lambda: m.destroy(g), lambda: m.destroy(g))
        errors |= {r[:2] for r in results}
        m.destroy(g)
    ok(errors <= {("", ""), ("EBUSY", "changing"), ("ESTALE", "")}, "one command at a time works on a set", errors)
    same((vfs(pf), m.generation(pf), module_users()), ([], 0, users), "and it ends once")
    for _ in range(3):
        g = m.create(pf, 3, "vfio-pci")[3]
        removed = threading.Event()
        at_once(lambda: bind_until(removed, g), lambda: remove_by_hand(removed))
        same(m.bind(g, "")[0], "ESTALE", "VFs removed by hand while they are given to drivers")
        same((vfs(pf), m.generation(pf), module_users()), ([], 0, users), "the set is gone with them")


# ---- the command ---------------------------------------------------------------------------


def host_state():
    return {a: (link(PCI + a + "/driver"), read(PCI + a + "/driver_override"), read(PCI + a + "/sriov_numvfs"),
                bool(link(PCI + a + "/iommu_group"))) for a in sorted(os.listdir(PCI))}


def left(before):
    now = host_state()
    return {a: (before.get(a), now.get(a)) for a in set(before) | set(now) if before.get(a) != now.get(a)}


def sriov(verb, *argv, text=None):
    dir_ = ["--dir", DIR] if verb in ("apply", "set", "recover") else []
    return subprocess.run(["vmplat", "sriov", verb] + dir_ + list(argv), capture_output=True, text=True, input=text)


def apply(text, *argv):
    return sriov("apply", "-", *argv, text=text)


def show(pf):
    return json.loads(sriov("show", "--json", pf).stdout)[0]


def attrs(pf, *keys):
    return [tuple(v[k] for k in keys) for v in show(pf)["vfs"]]


WISH = """
[pf %s]
numvfs = 3
driver = vfio-pci
spoofchk = off

[vf 0]
mac = 02:00:00:00:00:10
vlan = 100
qos = 3

[vf 1-2]
trust = on

[vf 2]
vlan = 7
spoofchk = on
"""


def test_apply(m, pf):
    before = host_state()
    text = WISH % pf
    p = apply(text, "--dry-run")
    ok(p.returncode == 0 and "numvfs 0 -> 3" in p.stdout and "VF 0: mac" in p.stdout, "a plan", p.stdout + p.stderr)
    same(left(before), {}, "changes nothing")
    p = apply(text)
    ok(p.returncode == 0, "applied", p.stdout + p.stderr)
    same(drivers(pf), [("vfio-pci", "vfio-pci")] * 3, "VFs have their driver")
    same(attrs(pf, "mac", "vlan", "qos", "spoofchk", "trust")[0], ("02:00:00:00:00:10", 100, 3, False, False), "VF 0")
    same(attrs(pf, "vlan", "spoofchk", "trust")[1:], [(0, False, True), (7, True, True)], "VF 1 and 2")
    ip = run("ip", "link", "show", show(pf)["netdev"]).stdout
    ok("02:00:00:00:00:10" in ip and "vlan 100, qos 3" in ip, "ip says so, too", ip)
    g = show(pf)["generation"]
    same((m.generation(pf), show(pf)["owner"]), (g, "root"), "generation and owner")
    same((sriov("diff", "-", text=text).returncode, apply(text).returncode, show(pf)["generation"]), (0, 0, g),
         "a second time changes nothing")
    p = sriov("show", "--file", pf)
    same(sriov("diff", "-", text=p.stdout).returncode, 0, "what is shown as a file is what there is")
    p = sriov("diff", "-", text=text.replace("vlan = 7", "vlan = 8"))
    same((p.returncode, p.stdout), (1, "%s VF 2: vlan 7 -> 8\n" % pf), "diff")
    return g


def test_set(pf):
    same(sriov("set", pf, "0,2", "vlan=9", "qos=1").returncode, 0, "set")
    same(attrs(pf, "vlan", "qos"), [(9, 1), (0, 0), (9, 1)], "of these VFs")
    held = show(pf)
    # igb knows no link state: the trust that is set before it has to go back
    p = sriov("set", pf, "0", "trust=on", "link=off")
    ok(p.returncode == 1 and "VF 0: link" in p.stderr, "what the driver refuses", p.stderr)
    same(show(pf), held, "is undone with all the rest")
    p = sriov("set", pf, "vlan=1", "--owner", "b")
    ok(p.returncode == 1 and "of root" in p.stderr, "another owner's VFs", p.stderr)
    same(show(pf), held, "stay as they are")
    same(sriov("set", pf, "vlan=5000").returncode, 2, "no VLAN")
    same(sriov("set", pf, "0", "driver=none").returncode, 2, "a driver of some VFs")
    same((sriov("set", pf, "driver=none").returncode, drivers(pf)), (0, [(None, "none")] * 3), "no driver")
    same((sriov("set", pf, "driver=vfio-pci").returncode, drivers(pf)), (0, [("vfio-pci", "vfio-pci")] * 3), "again")


def test_blockers(m, pf, other):
    """Each refusal names what is in the way, and changes nothing."""
    held, state = show(pf), host_state()

    def refused(what, text, want, *argv):
        p = apply(text, *argv)
        ok(p.returncode == 1 and want in p.stderr, what, (p.returncode, p.stderr))
    head = "[pf %s]\nnumvfs = %d\n"
    refused("too many VFs", head % (pf, 100), "input:2: %s: numvfs = 100: it can have" % pf)
    refused("another owner", head % (pf, 1), "are of root", "--owner", "b")
    refused("a typing error", head % (pf, 3) + "[vf 0]\nvlam = 3\n", "input:4: there is no setting 'vlam'")
    refused("a bridge", head % ("0000:00:00.0", 1), "has no SR-IOV")
    refused("a VF", head % (vfs(pf)[0], 1), "is itself a VF, of " + pf)
    refused("MSI-X that cannot be set", head % (pf, 3) + "msix = 3\n", "msix: the driver of")
    refused("the second PF cannot have that", WISH % pf + head % (other, 1) + "[vf 0]\nvlan = 3\n",
            "no network interface")
    same((show(pf), left(state)), (held, {}), "nothing changed")
    p = run("vmplat", "claim", "add", vfs(pf)[0])
    n = p.stdout.strip()
    p = apply(head % (pf, 1))
    ok(p.returncode == 1 and "belongs to claim " + n in p.stderr, "a VF that is claimed", p.stderr)
    p = sriov("destroy", pf)
    ok(p.returncode == 1 and "belongs to claim " + n in p.stderr, "is not removed", p.stderr)
    run("vmplat", "claim", "release", n)
    same(left(state), {}, "released, all is as before")
    with opened(vfs(pf)[1], True):
        for p in (apply(head % (pf, 2)), sriov("destroy", pf), sriov("set", pf, "driver=none")):
            ok(p.returncode == 1 and vfs(pf)[1] in p.stderr, "a VF that is open is named", p.stderr)
        same((show(pf), left(state)), (held, {}), "and nothing changed")


def test_two(m, pf, other):
    """Two PFs, of which the second fails at the very end: the first is back, attributes and all."""
    held = show(pf)
    p = apply((WISH % pf).replace("vlan = 7", "vlan = 77") +
              "[pf %s]\nnumvfs = 2\ndriver = no-such-driver\n" % other)
    ok(p.returncode == 1 and other in p.stderr and "no-such-driver" in p.stderr, "the second PF fails", p.stderr)
    same((show(pf), vfs(other)), (held, []), "the first is as it was, the second has none")
    p = apply((WISH % pf).replace("numvfs = 3", "numvfs = 4") +
              "[pf %s]\nnumvfs = 2\ndriver = no-such-driver\n" % other)
    ok(p.returncode == 1, "the same with another number of VFs", p.stderr)
    now = show(pf)
    ok(now["generation"] > held["generation"], "the first was made anew", now["generation"])
    now["generation"] = held["generation"]
    same(now, held, "and is otherwise as it was")


def test_destroy(m, pf):
    g = show(pf)["generation"]
    p = sriov("destroy", pf, "--owner", "b")
    ok(p.returncode == 1 and "of root" in p.stderr, "another owner does not remove them", p.stderr)
    p = sriov("destroy", pf, "--generation", str(g - 1))
    ok(p.returncode == 1 and "is over" in p.stderr, "nor does one who is too late", p.stderr)
    same(show(pf)["generation"], g, "they are there")
    same((sriov("destroy", pf, "--generation", str(g)).returncode, vfs(pf)), (0, []), "removed")
    same(sriov("destroy", pf).returncode, 0, "a second time is no error")


# ---- all attributes ------------------------------------------------------------------------


def test_netdevsim():
    """netdevsim knows every attribute; in switchdev mode it refuses rates."""
    modprobe("netdevsim")
    bus = "/sys/bus/netdevsim"
    if not os.path.exists(bus):
        return skip("there is no netdevsim in this kernel")
    write(bus + "/new_device", "9 1")
    wait(lambda: os.path.isdir(bus + "/devices/netdevsim9/net"))
    dev = os.listdir(bus + "/devices/netdevsim9/net")[0]
    text = """
[pf %s]
numvfs = 3
spoofchk = on
[vf 0]
mac = 02:00:00:00:00:20
vlan = 100
qos = 3
proto = 802.1ad
min_rate = 10
max_rate = 20
trust = on
link = off
[vf 1]
vlan = 5
link = on
""" % dev
    p = apply(text)
    ok(p.returncode == 0, "all attributes are set", p.stdout + p.stderr)
    keys = ("mac", "vlan", "qos", "proto", "min_rate", "max_rate", "spoofchk", "trust", "link")
    same(attrs(dev, *keys)[0], ("02:00:00:00:00:20", 100, 3, "802.1ad", 10, 20, True, True, "off"), "VF 0")
    same(attrs(dev, *keys)[1][1:], (5, 0, "802.1Q", 0, 0, True, False, "on"), "VF 1")
    ip = run("ip", "link", "show", dev).stdout
    ok("vlan 100, qos 3, vlan protocol 802.1ad" in ip and "max_tx_rate 20Mbps" in ip, "ip says so, too", ip)
    same(sriov("set", dev, "0", "max_rate=30").returncode, 0, "one rate is set")
    same(attrs(dev, "min_rate", "max_rate")[0], (10, 30), "the other stays")
    held = show(dev)
    run("devlink", "dev", "eswitch", "set", "netdevsim/netdevsim9", "mode", "switchdev")
    p = sriov("set", dev, "vlan=7", "trust=off", "max_rate=40")
    ok(p.returncode == 1 and "VF 0: max_rate" in p.stderr, "rates are refused", p.stderr)
    same(show(dev)["vfs"], held["vfs"], "and all the rest is undone")
    run("devlink", "dev", "eswitch", "set", "netdevsim/netdevsim9", "mode", "legacy")
    p = apply("[pf %s]\nnumvfs = 1\ndriver = vfio-pci\n" % dev)
    ok(p.returncode == 1 and "no PCI functions" in p.stderr, "its VFs have no drivers", p.stderr)
    same((apply("[pf %s]\nnumvfs = 0\n" % dev).returncode, show(dev)["numvfs"]), (0, 0), "removed")
    write(bus + "/del_device", "9")


# ---- killed -----------------------------------------------------------------------------------


def killed_in(seconds, text):
    return kill_after(seconds, "vmplat", "sriov", "apply", "--dir", DIR, "-", text=text)


def killed_when(due, text):
    """Kills it when due() first says so; whether that was before it ended."""
    p = subprocess.Popen(["vmplat", "sriov", "apply", "--dir", DIR, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, text=True)
    p.stdin.write(text)
    p.stdin.close()
    while p.poll() is None and not due():
        time.sleep(0.001)
    p.kill()
    return p.wait() < 0


def test_killed(m, pf, other, cycles):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    before, users = host_state(), module_users()
    text = WISH % pf + "[pf %s]\nnumvfs = 2\ndriver = vfio-pci\n" % other
    start = time.time()
    p = apply(text)
    took = time.time() - start
    print("# SEED=%d, applying takes %.2f s" % (seed, took), flush=True)
    ok(p.returncode == 0, "two PFs", p.stderr)
    whole = host_state()
    sriov("destroy", pf, other)
    same(left(before), {}, "and removed")
    kills = 0
    for i in range(cycles):
        kill = killed_in(rng.uniform(0, took * 1.2), text)
        kills += kill
        p = sriov("recover")
        state = left(before)
        if p.returncode or (state and (kill and left(whole))):
            ok(False, "cycle %d leaves nothing behind" % i, (kill, p.stderr, state))
            return
        sriov("destroy", pf, other)
        if left(before) or module_users() != users:
            ok(False, "cycle %d is clean after all" % i, (left(before), module_users()))
            return
    ok(True, "%d cycles, %d with a kill: all or nothing, and nothing is left" % (cycles, kills))
    ok(kills, "some were killed in time", kills)


def test_late(m, pf, other):
    """What was interrupted is undone, but not to VFs that somebody else has made since."""
    text = WISH % pf
    for _ in range(20):     # until one is killed with VFs there and the journal open
        if killed_when(lambda: vfs(pf), text):
            break
        sriov("recover")
        sriov("destroy", pf)
    else:
        return ok(False, "an apply was killed half way")
    m.destroy(m.generation(pf))
    g = m.create(pf, 1, "vfio-pci", "b")[3]
    p = sriov("recover")
    ok(p.returncode == 0, "recovered", p.stderr)
    same((m.generation(pf), len(vfs(pf))), (g, 1), "VFs that b made since are left alone")
    m.destroy(g)


def main():
    if sys.argv[1:] == ["netdevsim"]:
        test_netdevsim()
        done()
    module_only = sys.argv[1:] == ["module"]
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 and not module_only else 4
    # claims are looked for where they are by default
    run("mount", "-t", "tmpfs", "none", "/var/lib")
    qmp("device_add", {"driver": "igb", "id": "igb0", "bus": "rp1"})
    qmp("device_add", {"driver": "nvme", "id": "nvme1", "bus": "rp4", "serial": "sriov", "subsys": "sub0",
                       "sriov_max_vfs": 4, "sriov_vq_flexible": 8, "sriov_vi_flexible": 4, "max_ioqpairs": 18,
                       "msix_qsize": 17})
    modprobe("igb", "nvme", "vfio-pci", "vfio_iommu_type1")
    igb = find(0x8086, 0x10c9)
    wait(lambda: os.path.exists(PCI + igb + "/net"))
    nvme = find_nvme()
    m = Module()
    before = host_state()
    start = time.time()
    tests = [(test_straight, (m, igb)), (test_owner, (m, igb)), (test_module, (m, nvme)), (test_pf_goes, (m, igb, nvme)),
             (test_together, (m, nvme)), (test_same_set, (m, nvme))]
    if not module_only:
        tests += [(test_apply, (m, igb)), (test_set, (igb,)), (test_blockers, (m, igb, nvme)), (test_two, (m, igb, nvme)),
                  (test_destroy, (m, igb)), (test_killed, (m, igb, nvme, cycles)), (test_late, (m, igb, nvme))]
    for test, args in tests:
        test(*args)
        print("# %s: %.1f s" % (test.__name__, time.time() - start), flush=True)
        start = time.time()
    same(left(before), {}, "in the end all is as in the beginning")
    run("umount", "/var/lib")
    done()


main()
