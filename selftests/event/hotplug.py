#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Real hardware comes and goes, through QMP, and "vmplat events" says so: PCI, CPU, DIMM, virtio-mem, network, virtual
functions of a network card.

Each step waits for its event, whatever else happens meanwhile. In the end the objects made of the events must be those
of "vmplat events --state".
"""
import json
import os
import queue
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


def qmp(command, arguments=None, check=True):
    argv = [SRC + "/selftests/host/qmp", command] + ([json.dumps(arguments)] if arguments else [])
    p = subprocess.run(argv, capture_output=True, text=True)
    if p.returncode and check:
        raise RuntimeError("%s: %s" % (command, p.stderr.strip()))
    return json.loads(p.stdout) if p.stdout.strip() else {}


def modprobe(name):
    """The kernel knows by which program its modules are found."""
    with open("/proc/sys/kernel/modprobe") as f:
        return subprocess.run([f.read().strip(), name], capture_output=True).returncode == 0


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


class Reader:
    """The events, and the objects that come of them."""

    def __init__(self):
        self.position = tempfile.mktemp()
        self.p = subprocess.Popen(["vmplat", "events", "--resume", self.position, "--json"], stdout=subprocess.PIPE,
                                  text=True)
        self.lines = queue.Queue()
        self.objects = {}
        self.seq = 0
        threading.Thread(target=self.pump, daemon=True).start()
        self.wait("the state at the beginning", lambda e: e["kind"] == "sync")

    def pump(self):
        for line in self.p.stdout:
            self.lines.put(json.loads(line))

    def apply(self, e):
        if e["kind"] == "reset":
            self.objects = {}
        if "class" not in e:
            return
        key = (e["class"], e["id"])
        self.objects.pop(key, None)
        if not e["gone"]:
            self.objects[key] = e[e["class"]]
        self.seq = max(self.seq, e["seq"])

    def wait(self, what, wanted):
        """The first event from here on that is wanted; None when it does not come."""
        seen, end = [], time.time() + LIMIT
        while time.time() < end:
            try:
                e = self.lines.get(timeout=1)
            except queue.Empty:
                continue
            self.apply(e)
            if wanted(e):
                ok(True, what)
                return e
            seen.append(e)
        ok(False, what, "it did not come; but: %s" % json.dumps(seen)[:1500])
        return None


def is_event(cls, action, **want):
    def check(e):
        return e["kind"] == "changed" and e["class"] == cls and e["action"] == action and all(
            e[cls].get(k.replace("_", "-")) == v for k, v in want.items())
    return check


def test_pci(r):
    qmp("device_add", {"driver": "virtio-rng-pci", "id": "r1", "bus": "rp1"})
    e = r.wait("a PCI function is plugged", is_event("pci", "add", vendor=0x1af4, device=0x1044))
    if not e:
        return
    address = e["pci"]["address"]
    ok(not e["gone"] and e["born"] == e["seq"], "it is born with this event")
    driver = "/sys/bus/pci/devices/%s/driver" % address
    if not os.path.exists(driver):
        modprobe("virtio_pci")
    r.wait("its driver takes it", is_event("pci", "bind", address=address, driver="virtio-pci"))
    write(driver + "/unbind", address)
    e = r.wait("unbind", is_event("pci", "unbind", address=address))
    ok(e and "driver" not in e["pci"], "there is no driver in it now")
    ok(e and e.get("pid") == os.getpid(), "it was this process", str(e))
    write("/sys/bus/pci/drivers/virtio-pci/bind", address)
    r.wait("bind", is_event("pci", "bind", address=address))
    qmp("device_del", {"id": "r1"})
    e = r.wait("it is unplugged", is_event("pci", "remove", address=address))
    ok(e and e["gone"], "and is gone")


def present_cpus():
    with open("/sys/devices/system/cpu/present") as f:
        return f.read()


def test_cpu(r):
    free = [s for s in qmp("query-hotpluggable-cpus") if "qom-path" not in s]
    if not free:
        return skip("no CPU can be plugged here")
    slot = free[-1]
    before = present_cpus()
    qmp("device_add", dict(slot["props"], driver=slot["type"], id="cpu-x"))
    end = time.time() + LIMIT
    while present_cpus() == before and time.time() < end:
        time.sleep(0.2)
    if not ok(present_cpus() != before, "the kernel takes the CPU that was plugged"):
        return
    e = r.wait("a CPU is plugged", is_event("cpu", "add"))
    if not e:
        return
    nr = e["cpu"]["number"]
    ok(not e["cpu"].get("online"), "it is present and offline")
    path = "/sys/devices/system/cpu/cpu%d/online" % nr
    end = time.time() + LIMIT
    while not os.path.exists(path) and time.time() < end:
        time.sleep(0.05)
    write(path, "1")
    r.wait("online", is_event("cpu", "online", number=nr, online=True))
    write(path, "0")
    e = r.wait("offline", is_event("cpu", "offline", number=nr))
    ok(e and not e["cpu"].get("online"), "and says so")
    qmp("device_del", {"id": "cpu-x"})
    e = r.wait("it is unplugged", is_event("cpu", "remove", number=nr))
    ok(e and e["gone"], "and is gone")


def test_dimm(r):
    qmp("object-add", {"qom-type": "memory-backend-ram", "id": "dm1", "size": 128 << 20})
    qmp("device_add", {"driver": "pc-dimm", "id": "d1", "memdev": "dm1"})
    e = r.wait("a DIMM is plugged and its block goes online", is_event("memory", "online"))
    if not e:
        return
    ok(e["memory"]["bytes"] > 0 and e["memory"]["start"] == e["id"] * e["memory"]["bytes"], "it says where it is")
    write("/sys/devices/system/memory/memory%d/state" % e["id"], "offline")
    f = r.wait("offline", lambda x: is_event("memory", "offline")(x) and x["id"] == e["id"])
    ok(f and f["gone"], "blocks are objects while they are online")
    qmp("device_del", {"id": "d1"})


def test_virtio_mem(r):
    if not modprobe("virtio_mem"):
        return skip("there is no virtio_mem in this kernel")
    qmp("object-add", {"qom-type": "memory-backend-ram", "id": "vm1", "size": 1 << 30})
    qmp("device_add", {"driver": "virtio-mem-pci", "id": "vmem", "memdev": "vm1", "bus": "rp2"})
    r.wait("virtio-mem is plugged", is_event("pci", "bind", device=0x1058))
    qmp("qom-set", {"path": "/machine/peripheral/vmem", "property": "requested-size", "value": 256 << 20})
    r.wait("it brings a memory block", is_event("memory", "online"))


def test_net(r):
    subprocess.run(["ip", "link", "add", "ev0", "type", "veth", "peer", "name", "ev1"], check=True)
    r.wait("a network device comes", is_event("net", "add", name="ev0"))
    subprocess.run(["ip", "link", "set", "ev0", "address", "02:00:00:00:00:01"], check=True)
    r.wait("its address changes", is_event("net", "change", name="ev0", address="02:00:00:00:00:01"))
    for name in ("ev0", "ev1"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    r.wait("it has a carrier", is_event("net", "change", name="ev0", up=True, carrier=True))
    subprocess.run(["ip", "link", "set", "ev0", "name", "ev2"], capture_output=True)
    subprocess.run(["ip", "link", "del", "ev1"], check=True)
    r.wait("it goes", lambda e: e["kind"] == "changed" and e["class"] == "net" and e["action"] == "remove")


def test_vf(r):
    """A card with SR-IOV is plugged, has three virtual functions made, two of them drivers changed, and none left."""
    if not modprobe("igb"):
        return skip("there is no igb in this kernel")
    qmp("device_add", {"driver": "igb", "id": "nic", "bus": "rp3", "mac": "02:00:00:00:01:00"})
    e = r.wait("a card is plugged and gets its driver", is_event("pci", "bind", driver="igb"))
    if not e:
        return
    pf = e["pci"]["address"]
    directory = "/sys/bus/pci/devices/" + pf
    ok(("vf", e["id"]) not in r.objects, "a physical function is no virtual one")
    write(directory + "/sriov_drivers_autoprobe", "0")
    write(directory + "/sriov_numvfs", "3")
    born = [r.wait("virtual function %d comes" % i, is_event("vf", "add", index=i, physfn=pf)) for i in range(3)]
    if not all(born):
        return
    addresses = [x["vf"]["address"] for x in born]
    ok(addresses == [os.path.basename(os.readlink("%s/virtfn%d" % (directory, i))) for i in range(3)],
       "each says where it is", addresses)
    ok(all("driver" not in x["vf"] for x in born), "and that nobody drives it")
    ok(all(r.objects[("pci", x["id"])]["physfn"] == pf for x in born), "it is a PCI function, too, of the same place")
    write("/sys/bus/pci/devices/%s/driver_override" % addresses[1], "pci-stub")
    if modprobe("pci-stub") or os.path.exists("/sys/bus/pci/drivers/pci-stub"):
        write("/sys/bus/pci/drivers_probe", addresses[1])
        r.wait("one gets a driver", is_event("vf", "bind", address=addresses[1], driver="pci-stub"))
        write("/sys/bus/pci/drivers/pci-stub/unbind", addresses[1])
        r.wait("and loses it", lambda x: is_event("vf", "unbind", address=addresses[1])(x) and "driver" not in x["vf"])
    else:
        skip("there is no pci-stub in this kernel")
    write(directory + "/sriov_numvfs", "0")
    gone = [r.wait("they go", is_event("vf", "remove")) for _ in range(3)]
    ok(sorted(x["vf"]["address"] for x in gone if x) == sorted(addresses), "all of them", gone)
    ok(all(x["gone"] and x["vf"]["physfn"] == pf for x in gone if x), "each says whose it was", gone)
    ok(not [k for k in r.objects if k[0] == "vf"], "none is left")
    qmp("device_del", {"id": "nic"})
    r.wait("the card is unplugged", is_event("pci", "remove", address=pf))


def state():
    out = subprocess.run(["vmplat", "events", "--state", "--json"], capture_output=True, text=True, check=True).stdout
    objects = {}
    for line in out.splitlines():
        e = json.loads(line)
        objects[(e["class"], e["id"])] = e[e["class"]]
    return objects


def main():
    try:
        write("/sys/devices/system/memory/auto_online_blocks", "online_movable")
    except OSError as e:
        print("# memory is not brought online by itself: %s" % e)
    r = Reader()
    for test in (test_net, test_pci, test_cpu, test_dimm, test_virtio_mem, test_vf):
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        try:
            test(r)
        except (RuntimeError, OSError) as e:
            ok(False, test.__name__, str(e))
    # hardware takes its time: what came of the last step may still be coming
    end, same = time.time() + LIMIT, False
    while not same and time.time() < end:
        try:
            while True:
                r.apply(r.lines.get(timeout=1))
        except queue.Empty:
            pass
        same = r.objects == state()
    ok(same, "the events made the state that a dump shows", "events: %s" % [
        k for k in r.objects.items() if k not in state().items()])
    r.p.terminate()
    r.p.wait()
    os.unlink(r.position)
    done()


main()
