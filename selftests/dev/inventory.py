#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""vmplat pci, iommu and gpu beside lspci and sysfs, on a host with hardware in it (emulated), and who uses it."""
import json
import os
import re
import subprocess
import sys

from host import PCI, done, link, ok, plug, read, run, same, wait

IOMMU = os.environ["VMPLAT_IOMMU"]


def vmplat(*argv):
    p = run("vmplat", *argv)
    if p.returncode:
        raise RuntimeError("vmplat %s: %s" % (" ".join(argv), p.stderr))
    return json.loads(p.stdout) if "--json" in argv else p.stdout


# ---- beside lspci ------------------------------------------------------------------


def lspci_records():
    """What "lspci -vmmnnk" says, by address."""
    out = {}
    for block in run("lspci", "-Dvmmnnk").stdout.strip().split("\n\n"):
        record = dict(line.split(":\t", 1) for line in block.splitlines() if ":\t" in line)
        out[record["Slot"]] = record
    return out


def lspci_details():
    """Of "lspci -vvv": offsets of capabilities, the serial number, the link, ACS, by address."""
    out = {}
    for block in run("lspci", "-Dvvv").stdout.strip().split("\n\n"):
        address = block.split(" ", 1)[0]
        d = {"caps": sorted(int(x, 16) for x in re.findall(r"Capabilities: \[([0-9a-f]+)", block))}
        m = re.search(r"Device Serial Number ([0-9a-f-]+)", block)
        d["serial"] = m and m.group(1)
        m = re.search(r"LnkSta:\s+Speed ([0-9.]+)GT/s[^,]*, Width x([0-9]+)", block)
        d["link"] = m and (float(m.group(1)), int(m.group(2)))
        m = re.search(r"ACSCtl:\s+SrcValid(.) TransBlk(.) ReqRedir(.) CmpltRedir(.) UpstreamFwd(.)", block)
        d["acs"] = m and m.groups()
        d["flr"] = "FLReset+" in block or bool(re.search(r"AFCap:.*FLR\+", block))
        out[address] = d
    return out


def names_of(text):
    """"Intel Corporation [8086]" -> the name, None if it is "Device"; the number"""
    m = re.fullmatch(r"(.*?) ?\[([0-9a-f]+)\]", text)
    return (None if m.group(1) in ("Device", "Vendor") else m.group(1)), int(m.group(2), 16)


def test_lspci(functions):
    records, details = lspci_records(), lspci_details()
    same(sorted(functions), sorted(records), "the functions are those of lspci")
    for address, f in functions.items():
        r, d = records[address], details[address]
        mine = (int(f["vendor"], 16), int(f["device"], 16), int(f["class"], 16) >> 8, f["vendor_name"],
                f["device_name"], f["driver"])
        (vn, v), (dn, n), (_, c) = names_of(r["Vendor"]), names_of(r["Device"]), names_of(r["Class"])
        same(mine, (v, n, c, vn, dn, r.get("Driver")), "%s: IDs, names, driver" % address)
        same(sorted(int(c["offset"], 16) for c in f["capabilities"]), d["caps"], "%s: capabilities" % address)
        same((f["serial"], f["flr"]), (d["serial"], d["flr"]), "%s: serial number, FLR" % address)
        if d["link"] and f["link"] and d["link"][1]:
            same((f["link"]["speed"], f["link"]["width"]), d["link"], "%s: link" % address)
        if d["acs"]:
            keys = ("source-validation", "translation-blocking", "request-redirect", "completion-redirect",
                    "upstream-forwarding")
            same(tuple("+" if f["acs"].get(k) else "-" for k in keys), d["acs"], "%s: ACS" % address)


# ---- beside sysfs ----------------------------------------------------------------------


def test_sysfs(functions):
    for address, f in functions.items():
        d = PCI + address + "/"
        override = read(d + "driver_override")
        reset = read(d + "reset_method")
        group = link(d + "iommu_group")
        same((f["driver_override"], f["reset_methods"], f["iommu_group"], f["physical_function"], f["max_vfs"]),
             (None if override in ("(null)", "", None) else override, reset.split() if reset else [],
              int(group) if group else None, link(d + "physfn"), int(read(d + "sriov_totalvfs") or 0)),
             "%s: override, reset, group, VFs" % address)
        bars = []
        for line in read(d + "resource").splitlines():
            start, last, flags = (int(x, 16) for x in line.split())
            if flags & 0x300:
                bars.append((start, last - start + 1))
        same([(int(b["start"], 16), b["bytes"]) for b in f["bars"]], bars, "%s: regions" % address)


def test_iommu(functions):
    state = vmplat("iommu", "show", "--json")
    want = {"intel": "all", "amd": "unproven", "none": "none"}[IOMMU]
    same(state["protection"], want, "protection on %s" % IOMMU)
    names = [f["name"] for f in state["findings"]]
    same("unproven" in names, IOMMU == "amd", "QEMU's amd-iommu is told from others")
    same("no-iommu" in names, IOMMU == "none", "no IOMMU is told")
    if IOMMU != "none":
        same(state["irq_remapping"], IOMMU == "intel", "interrupt remapping")
    base = "/sys/kernel/iommu_groups/"
    groups = {g["id"]: g for g in state["groups"]}
    same(sorted(groups), sorted(int(n) for n in os.listdir(base)), "the groups are those of sysfs")
    for i, g in groups.items():
        regions = ["0x%016x 0x%016x %s" % (int(r["start"], 16), int(r["last"], 16), r["type"]) for r in g["reserved"]]
        same((sorted(g["members"]), g["type"], "\n".join(regions)),
             (sorted(os.listdir(base + "%d/devices" % i)), read(base + "%d/type" % i),
              read(base + "%d/reserved_regions" % i)), "group %d: members, type, reserved regions" % i)
    for address, f in functions.items():
        mates = [m for m in groups[f["iommu_group"]]["members"]
                 if m != address and functions[m]["class"][:6] not in ("0x0600", "0x0604", "0x0609")] \
            if f["iommu_group"] is not None else []
        if f["iommu_group"] is None:
            # an AMD IOMMU is a PCI function itself
            ok(IOMMU == "none" or (IOMMU == "amd" and f["class"] == "0x080600"), "%s: in no group" % address)
            same(f["isolation"], "none", "%s: nothing isolates it" % address)
        elif mates:
            same(f["isolation"], "shared", "%s: shares its group" % address)
        else:
            ok(f["isolation"] in ("alone", "doubtful"), "%s: alone in its group" % address, f["isolation"])


# ---- use -----------------------------------------------------------------------------------


def uses(address):
    return sorted(x["name"] for x in vmplat("pci", "show", "--json", address)[0]["use"])


def test_disk(address):
    """The first namespace of an NVMe controller, with multipath in most kernels: /dev/nvme0n1"""
    same(uses(address), [], "an idle disk is used by nobody")
    run("mkfs.ext4", "-q", "/dev/nvme0n1")
    os.makedirs("/tmp/mnt", exist_ok=True)
    run("mount", "/dev/nvme0n1", "/tmp/mnt")
    same(uses(address), ["mounted"], "mounted")
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo ready; read x"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    run("umount", "/tmp/mnt")
    same(uses(address), ["mounted"], "still mounted in another namespace")
    holder.communicate("\n")
    same(uses(address), [], "unmounted")
    run("mkswap", "/dev/nvme0n1")
    run("swapon", "/dev/nvme0n1")
    same(uses(address), ["swap"], "swap")
    run("swapoff", "/dev/nvme0n1")
    with open("/dev/nvme0n1", "rb"):
        same(uses(address), ["node-open"], "its node is open")
    with open("/dev/nvme0", "rb"):
        same(uses(address), ["node-open"], "its controller's node is open")
    same(uses(address), [], "and closed")


def test_net(address):
    nets = os.listdir(PCI + address + "/net")
    name = nets[0]
    same(uses(address), [], "an idle interface")
    run("ip", "link", "set", name, "up")
    same(uses(address), ["net-up"], "up")
    run("ip", "addr", "add", "192.0.2.1/32", "dev", name)
    same(uses(address), ["net-address"], "with an address")
    run("ip", "route", "add", "default", "dev", name)
    same(uses(address), ["default-route"], "with a default route")
    run("ip", "addr", "flush", "dev", name)
    run("ip", "route", "flush", "dev", name)
    run("ip", "link", "set", name, "down")
    run("ip", "netns", "add", "away")
    run("ip", "link", "set", name, "netns", "away")
    same(uses(address), ["net-elsewhere"], "in another network namespace")
    run("ip", "netns", "del", "away")
    wait(lambda: os.path.exists(PCI + address + "/net"))


def test_vfs(address):
    with open(PCI + address + "/sriov_drivers_autoprobe", "w") as f:
        f.write("0")
    with open(PCI + address + "/sriov_numvfs", "w") as f:
        f.write("2")
    functions = {f["address"]: f for f in vmplat("pci", "list", "--json")}
    vfs = [f for f in functions.values() if f["physical_function"] == address]
    same([len(vfs), functions[address]["vfs"]], [2, 2], "VFs and their PF")
    same(uses(address), ["vfs"], "VFs are a use of the PF")
    for f in vfs:
        same(f["isolation"], {"none": "none"}.get(IOMMU, "alone"), "%s: isolation of a VF" % f["address"])
    with open(PCI + address + "/sriov_numvfs", "w") as f:
        f.write("0")


def test_gpu(functions):
    gpus = {g["address"]: g for g in vmplat("gpu", "list", "--json")}
    same(sorted(gpus), sorted(a for a, f in functions.items() if f["class"][2:4] in ("03", "12")), "the GPUs")
    for address, g in gpus.items():
        names = [f["name"] for f in g["findings"]]
        if read(PCI + address + "/boot_vga") == "1":
            ok("boot-vga" in names or "boot-framebuffer" in names, "%s: the boot screen" % address, names)
        same(g["verdict"] == "no", any(f["severity"] == "blocker" for f in g["findings"]), "%s: verdict" % address)


def main():
    igb, nvme = plug()
    functions = {f["address"]: f for f in vmplat("pci", "list", "--json")}
    test_lspci(functions)
    test_sysfs(functions)
    test_iommu(functions)
    test_gpu(functions)
    test_disk(nvme)
    test_net(igb)
    test_vfs(igb)
    return done()


sys.exit(main())
