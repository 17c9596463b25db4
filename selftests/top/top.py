#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""vmplat top: a VM made here, whose every page written, state, view and end is known; as JSON, as lines, on a terminal."""
import ctypes
import json
import mmap
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
SRC = os.environ["VMPLAT_SRC"]
sys.path.insert(0, SRC + "/selftests")
from tap import done, ok

PAGE = mmap.PAGESIZE
PAGES = 512
RUNNING, PAUSED = 2, 3
lib = ctypes.CDLL(SRC + "/build/user/lib/libvmplat.so")
lib.vmplat_last_error.restype = ctypes.c_char_p
lib.vmplat_mem_fd.argtypes = lib.vmplat_view_fd.argtypes = [ctypes.c_void_p]
for name in ("vmplat_mem_close", "vmplat_view_close", "vmplat_report_close"):
    getattr(lib, name).argtypes = [ctypes.c_void_p]


def must(rc):
    if rc < 0:
        raise RuntimeError(lib.vmplat_last_error().decode())


class FreezeMem(ctypes.Structure):
    _fields_ = [("mem", ctypes.c_void_p), ("log", ctypes.c_void_p), ("id", ctypes.c_void_p)]


class Vm:
    """What events know as a VM: a memory, and somebody who reports its state."""

    def __init__(self, name):
        self.dev, self.mem, self.report, self.view = (ctypes.c_void_p() for _ in range(4))
        mem_id = ctypes.c_uint64()
        must(lib.vmplat_open(ctypes.byref(self.dev), None))
        must(lib.vmplat_mem_new(ctypes.byref(self.mem), self.dev, ctypes.c_uint64(PAGES * PAGE), 0))
        must(lib.vmplat_mem_id(self.mem, self.dev, ctypes.byref(mem_id)))
        self.id = mem_id.value
        must(lib.vmplat_report_new(ctypes.byref(self.report), self.dev, name.encode(), RUNNING,
                                   ctypes.byref(mem_id), ctypes.c_size_t(1)))
        self.ram = mmap.mmap(lib.vmplat_mem_fd(self.mem), PAGES * PAGE)

    def write(self, first, nr):
        for page in range(first, first + nr):
            self.ram[page * PAGE] = (self.ram[page * PAGE] + 1) & 255

    def freeze(self, side_bytes):
        must(lib.vmplat_freeze(ctypes.byref(self.view), self.dev, ctypes.byref(FreezeMem(self.mem)),
                               ctypes.c_size_t(1), 0, ctypes.c_uint64(side_bytes)))

    def close(self):
        self.ram.close()
        lib.vmplat_report_close(self.report)
        lib.vmplat_mem_close(self.mem)


class Top:
    """vmplat top --json, a line at a time."""

    def __init__(self, program="vmplat", **kw):
        self.p = subprocess.Popen([program, "top", "--json", "-i", "0.3"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, **kw)
        self.last = None

    def line(self):
        text = self.p.stdout.readline()
        if not text.startswith("{"):
            raise RuntimeError("vmplat top says: %r" % text)
        self.last = json.loads(text)
        return self.last

    def until(self, true):
        """Whether a line comes for which that is true, within a time that no machine needs."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                if true(self.line()):
                    return True
            except (KeyError, IndexError, TypeError):
                pass
        return False

    def stop(self):
        self.p.send_signal(signal.SIGINT)
        self.p.stdout.read()
        return self.p.wait()


def check(top, what, true):
    ok(top.until(true), what, json.dumps(top.last))


def vm_of(line):
    return next(v for v in line["vms"] if v["name"] == "web")


def test_json(vm):
    top = Top()
    check(top, "a VM with its memory", lambda x: vm_of(x)["memory_bytes"] == PAGES * PAGE and
          vm_of(x)["state"] == "running" and vm_of(x)["pid"] == os.getpid())
    check(top, "nothing is written", lambda x: vm_of(x)["dirty_pages"] == 0)
    vm.write(0, 100)
    seen = []

    def hundred(x):
        seen.append(vm_of(x)["dirty_pages"])
        return sum(seen) >= 100
    ok(top.until(hundred) and sum(seen) == 100, "a hundred pages written are a hundred pages", seen)
    ok(vm_of(top.last)["dirty_bytes_per_second"] > 0, "and a rate", top.last)
    check(top, "each is told once", lambda x: vm_of(x)["dirty_pages"] == 0)
    ok(vm_of(top.last)["cpu_percent"] is not None, "what it computes", top.last)
    must(lib.vmplat_report_state(vm.report, PAUSED))
    check(top, "it is paused", lambda x: vm_of(x)["state"] == "paused")
    vm.freeze(64 * PAGE)
    check(top, "it has a view, with a limit", lambda x: vm_of(x)["views"] == 1 and
          x["views"][0]["side_limit"] == 64 * PAGE and x["views"][0]["state"] == "ok")
    vm.write(0, 10)
    check(top, "ten pages are kept for it", lambda x: x["views"][0]["side_bytes"] >= 10 * PAGE)
    vm.write(0, 100)
    check(top, "more than there is room for break it", lambda x: x["views"][0]["state"] == "broken-limit")
    lib.vmplat_view_close(vm.view)
    check(top, "it is gone", lambda x: not x["views"])
    must(lib.vmplat_report_failed(vm.report, b"out of luck"))
    check(top, "it failed, and why", lambda x: vm_of(x)["state"] == "failed" and vm_of(x)["reason"] == "out of luck")
    return top


def test_user():
    """Somebody of the device's group, without a look at other users' processes."""
    def become():
        os.setgroups([os.stat("/dev/vmplat").st_gid])
        os.setgid(65534)
        os.setuid(65534)
    # the checkout may be where nobody else can look
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        for part in ("bin/vmplat", "lib/libvmplat.so.0"):
            os.makedirs(os.path.dirname(place + "/" + part))
            shutil.copy(SRC + "/build/user/" + part, place + "/" + part)
        as_user(place + "/bin/vmplat", become)


def as_user(program, become):
    env = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    top = Top(program, preexec_fn=become, env=env)
    check(top, "another user sees the VM, not what it writes",
          lambda x: vm_of(x)["memory_bytes"] and vm_of(x)["dirty_pages"] is None)
    top.stop()
    p = subprocess.run([program, "top", "-b", "-n", "1", "-i", "0.1"], capture_output=True, text=True, preexec_fn=become,
                       env=env)
    ok("run as root" in p.stdout, "and is told what to do", p.stdout + p.stderr)


def test_lines():
    p = subprocess.run(["vmplat", "top", "-n", "2", "-i", "0.2", "--no-dirty"], capture_output=True, text=True)
    ok(p.returncode == 0 and len(re.findall(r"^web +failed ", p.stdout, re.M)) == 2, "two pages of lines",
       p.stdout + p.stderr)
    ok("\033" not in p.stdout, "without colours in a pipe", repr(p.stdout))
    for bad in (["-i", "0"], ["-i", "x"], ["-n", "0"], ["--sort", "size"], ["web"]):
        p = subprocess.run(["vmplat", "top", *bad], capture_output=True, text=True)
        ok(p.returncode == 2 and "vmplat help top" in p.stderr, "refused: " + " ".join(bad), p.stderr)


class Terminal:
    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)
        termios.tcsetwinsize(self.fd, (24, 110)) if hasattr(termios, "tcsetwinsize") else None
        self.text = ""

    def until(self, text):
        end = time.monotonic() + 120
        while text not in self.text and time.monotonic() < end:
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    break
        return text in self.text

    def press(self, keys):
        self.text = ""
        os.write(self.fd, keys.encode())


def test_terminal():
    t = Terminal("vmplat", "top", "-i", "0.5")
    ok(t.until("web") and t.until("failed"), "a terminal shows it", repr(t.text[-500:]))
    ok("\033[?1049h" in t.text, "on a screen of its own", repr(t.text[:200]))
    t.press("s")
    ok(t.until("name"), "s sorts by name", repr(t.text[-500:]))
    t.press("q")
    ok(t.until("\033[?1049l"), "q gives the terminal back", repr(t.text[-500:]))
    ok(os.waitstatus_to_exitcode(os.waitpid(t.pid, 0)[1]) == 0, "and is no failure")


def main():
    vm = Vm("web")
    top = test_json(vm)
    test_user()
    test_lines()
    test_terminal()
    vm.close()
    check(top, "the VM ends, and no log of ours keeps its memory",
          lambda x: not x["vms"] and not any(m["id"] == vm.id for m in x["memories"]))
    ok(top.stop() == 0, "Ctrl-C is no failure")


main()
done()
