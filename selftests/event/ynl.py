#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The specification: valid, the same as the header, and good enough for the kernel's own client to drive the module.

Schema, generator and client are those of the kernel's source package; nothing of them is ours.
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
SRC = os.environ.get("VMPLAT_SRC") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
KERNEL = os.path.join(os.environ.get("VMPLAT_CACHE") or os.path.expanduser("~/.cache/vmplat"), "source")
SPEC = SRC + "/Documentation/netlink/specs/vmplat.yaml"
SCHEMA = KERNEL + "/Documentation/netlink/genetlink.yaml"
sys.path.insert(0, SRC + "/selftests")
from tap import done, ok, skip_all

SOL_NETLINK, ADD_MEMBERSHIP = 270, 1


def numbers_of(header, tmp):
    """What a C compiler makes of the enumerators and string constants of a header."""
    with open(header) as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    names = sorted(set(re.findall(r"^\s*(?:#define\s+)?_{0,2}(VMPLAT_\w+)(?=\s*=|,|\s+[\"\d])", text, flags=re.M)))
    source = os.path.join(tmp, "numbers.c")
    with open(source, "w") as f:
        f.write('#include <stdio.h>\n#include "%s"\n#define S(x) _Generic((x), char *: "%%s=%%s\\n", default: "%%s=%%d\\n")\n'
                "int main(void) {\n" % header)
        for n in names:
            f.write('printf(S(%s), "%s", %s);\n' % (n, n, n))
        f.write("return 0; }\n")
    program = os.path.join(tmp, "numbers")
    subprocess.run(["gcc", "-w", "-o", program, source], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def test_header():
    with tempfile.TemporaryDirectory() as tmp:
        # the generator looks for the root of a kernel tree around the specification
        specs = os.path.join(tmp, "Documentation/netlink/specs")
        os.makedirs(specs)
        open(os.path.join(tmp, "MAINTAINERS"), "w").close()
        for name, target in ((SCHEMA, specs + "/../genetlink.yaml"), (SPEC, specs + "/vmplat.yaml")):
            with open(name) as a, open(target, "w") as b:
                b.write(a.read())
        out = os.path.join(tmp, "generated.h")
        p = subprocess.run([sys.executable, "-B", KERNEL + "/tools/net/ynl/ynl-gen-c.py", "--spec",
                            specs + "/vmplat.yaml", "--mode", "uapi", "--header", "-o", out],
                           capture_output=True, text=True, timeout=120)
        if not ok(p.returncode == 0, "the generator takes the specification", p.stderr[-800:]):
            return
        want = numbers_of(out, tmp)
        have = numbers_of(SRC + "/uapi/linux/vmplat_netlink.h", tmp)
        ok(len(want) > 100, "it makes a header (%d names)" % len(want))
        ok(want == have, "uapi/linux/vmplat_netlink.h says the same", sorted(set(want) ^ set(have)))


def refused(family, op, args, text, what, dump=False):
    from lib import NlError
    try:
        answer = family.dump(op, args) if dump else family.do(op, args)
        ok(False, what, "it was accepted: %s" % answer)
    except NlError as e:
        # Linux 6.1 has no words for what is refused before a dump begins.
        wordless = dump and os.uname().release.startswith("6.1.")
        ok(wordless or text in str(e), what, str(e))


def test_module():
    from lib import YnlFamily
    fd = os.open("/dev/vmplat", os.O_RDWR)
    listener = YnlFamily(SPEC, schema=SCHEMA)
    listener.ntf_subscribe("vm")
    asker = YnlFamily(SPEC, schema=SCHEMA)
    runner = YnlFamily(SPEC, schema=SCHEMA)

    info = asker.do("info-get", {})
    ok(info["epoch"] and info["oldest"] >= 1 and info["capacity"] >= 65536, "info-get", info)
    objects = asker.dump("object-get", {"classes": ["cpu", "pci"]})
    ok(objects[0]["seq"] == info["seq"] and "class" not in objects[0], "a dump begins with its position", objects[0])
    cpus = [o for o in objects if o.get("class") == "cpu"]
    ok(len(cpus) == os.cpu_count() and all(o["cpu"]["online"] for o in cpus), "CPUs", cpus)
    pci = {o["pci"]["address"] for o in objects if o.get("class") == "pci"}
    ok(pci == set(os.listdir("/sys/bus/pci/devices")), "PCI functions", pci)
    one = asker.do("object-get", {"class": "cpu", "id": 0})
    ok(one["cpu"]["number"] == 0 and one["class"] == "cpu", "a single object", one)
    online = len([d for d in os.listdir("/sys/devices/system/memory") if re.fullmatch(r"memory\d+", d) and
                  open("/sys/devices/system/memory/%s/state" % d).read().strip() == "online"])
    blocks = asker.dump("object-get", {"classes": ["memory"]})[1:]
    ok(len(blocks) == online, "memory blocks", "%d, sysfs says %d" % (len(blocks), online))

    vm = runner.do("vm-set", {"vm": {"name": "ynl", "state": "starting"}, "device-fd": fd})
    ok(vm["vm"]["pid"] == os.getpid() and vm["vm"]["name"] == "ynl", "a VM is reported", vm)
    runner.do("vm-set", {"vm": {"state": "running"}, "device-fd": fd})
    runner.sock.close()
    seen = []
    for _ in range(200):
        listener.check_ntf()
        seen = [m["msg"] for m in listener.async_msg_queue if m["msg"]["id"] == vm["id"]]
        if len(seen) == 3:
            break
        time.sleep(0.05)
    ok([m["action"] for m in seen] == ["add", "change", "remove"], "its group hears of it", seen)
    ok(seen and seen[-1].get("gone") and seen[-1]["vm"]["state"] == "running", "it vanished while running", seen[-1:])
    ok([m["class-seq"] for m in seen] == list(range(seen[0]["class-seq"], seen[0]["class-seq"] + 3)), "no hole")
    ok(seen[0]["pid"] == os.getpid() and seen[0]["comm"], "and says who did it", seen[0])
    replayed = asker.dump("event-get", {"since": info["seq"], "classes": ["vm"]})
    ok(replayed[1:] == seen, "event-get says the same", replayed)
    ok(len(asker.dump("event-get", {"since": seen[-1]["seq"], "classes": ["vm"]})) == 1, "and nothing after the last")

    refused(asker, "object-get", {"class": "cpu"}, "id is missing", "an attribute that is missing is named")
    refused(asker, "object-get", {"class": "cpu", "id": 4711}, "no such object", "an object that is not there")
    refused(asker, "event-get", {"since": 1 << 60}, "has not happened yet", "a position in the future", dump=True)
    refused(asker, "event-get", {"since": 0, "epoch": info["epoch"] ^ 1}, "another epoch", "another epoch", dump=True)
    refused(asker, "vm-set", {"vm": {"name": "x", "state": "running"}}, "device-fd is missing", "a VM without the device")
    refused(asker, "vm-set", {"vm": {"state": "running"}, "device-fd": fd}, "name and a state", "a VM without a name")
    refused(asker, "vm-set", {"vm": {"name": "x", "state": "running", "mem": [1 << 50]}, "device-fd": fd},
            "no such memory", "a memory that is not there")
    refused(asker, "vm-set", {"vm": {"name": "x", "state": "running"}, "device-fd": 0}, "not a file of /dev/vmplat",
            "another file than the device")


def main():
    if not os.path.exists(SCHEMA):
        skip_all("no kernel source in the cache")
    sys.path.insert(0, KERNEL + "/tools/net/ynl")
    import jsonschema
    import yaml
    with open(SPEC) as a, open(SCHEMA) as b:
        try:
            jsonschema.validate(yaml.safe_load(a), yaml.safe_load(b))
            ok(True, "the specification is valid")
        except jsonschema.ValidationError as e:
            ok(False, "the specification is valid", e.message)
    test_header()
    if os.path.exists("/dev/vmplat"):
        test_module()
    done()


main()
