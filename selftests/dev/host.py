# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of devices share: TAP, the QEMU around the host, what is plugged for them."""
import json
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
SRC = os.environ["VMPLAT_SRC"]
sys.path.insert(0, SRC + "/selftests")
from tap import done, ok

PCI = "/sys/bus/pci/devices/"


def same(got, want, what):
    return ok(got == want, what, "got  %r\nwant %r" % (got, want))


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True)


def read(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return None


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def link(path):
    return os.path.basename(os.readlink(path)) if os.path.islink(path) else None


def wait(true):
    """For an event, as long as the test may take."""
    while not true():
        time.sleep(0.1)


def kill_after(seconds, *argv, text=""):
    """Whether it was killed before it ended."""
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    p.stdin.write(text)
    p.stdin.close()
    try:
        p.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return True


def modprobe(*names):
    for name in names:
        run(read("/proc/sys/kernel/modprobe"), name)


def qmp(command, arguments):
    p = run(SRC + "/selftests/host/qmp", command, json.dumps(arguments))
    # another test in the same host may have plugged it already
    if p.returncode and "Duplicate" not in p.stderr:
        raise RuntimeError("%s: %s" % (command, p.stderr.strip()))


def find(vendor, device):
    """The address of a function of that model, once there is one."""
    found = []

    def there():
        ids = {a: (read(PCI + a + "/vendor"), read(PCI + a + "/device")) for a in sorted(os.listdir(PCI))}
        found[:] = [a for a in ids if ids[a] == ("0x%04x" % vendor, "0x%04x" % device)]
        return found
    wait(there)
    return found[0]


def plug():
    """A network card with VFs and a disk, with their drivers: addresses."""
    # what is written to the disk goes to a temporary file that QEMU has unlinked already
    qmp("human-monitor-command", {"command-line": "drive_add 0 if=none,id=d0,driver=null-co,size=64M,"
                                                  "read-zeroes=on,snapshot=on"})
    qmp("device_add", {"driver": "igb", "id": "igb0", "bus": "rp1"})
    qmp("device_add", {"driver": "nvme", "id": "nvme0", "bus": "rp2", "serial": "vmplat", "drive": "d0"})
    modprobe("igb", "nvme", "ext4")
    igb, nvme = find(0x8086, 0x10c9), find(0x1b36, 0x0010)
    wait(lambda: os.path.exists(PCI + igb + "/net") and os.path.exists("/dev/nvme0n1"))
    return igb, nvme


def find_nvme():
    """The disk that can have VFs, not the one without that other tests plug."""
    found = []

    def there():
        found[:] = [a for a in os.listdir(PCI) if read(PCI + a + "/sriov_totalvfs") == "4"]
        return found and link(PCI + found[0] + "/driver")
    wait(there)
    return found[0]
