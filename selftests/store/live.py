#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Snapshots of memory that is being written, by the real command from real views, killed at random instants. This
# program plays the VM: it writes, keeps a shadow of what it wrote, and answers on a control socket. Whatever was
# killed, the next increment has every page, and a snapshot that is there is what memory was at its freeze.
import array, ctypes, fcntl, json, os, mmap, random, shutil, socket, struct, subprocess, sys, tempfile, threading, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + '/..')
from tap import done, ok

PAGE = 4096
BYTES = 16 << 20
PAGES = BYTES // PAGE
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
random.seed(7)

work = tempfile.mkdtemp(prefix='store-live.', dir=os.environ.get('SCRATCH', '/tmp'))
os.environ['VMPLAT_STORE'] = work + '/store'
os.environ['VMPLAT_RUN_DIR'] = work


def ioctl(fd, nr, fmt, *values):
    buf = bytearray(struct.pack('=' + fmt, struct.calcsize('=' + fmt), *values))
    fcntl.ioctl(fd, 0xb700 | nr, buf)
    return struct.unpack('=' + fmt, buf)


class Guest:
    def __init__(self):
        self.dev = os.open('/dev/vmplat', os.O_RDWR)
        self.mem = ioctl(self.dev, 0x01, 'IIQiI', 0, BYTES, -1, 0)[3]
        self.log = ioctl(self.dev, 0x02, 'IIiiQ', 0, self.mem, -1, 0)[3]
        self.ram = mmap.mmap(self.mem, BYTES)
        self.shadow = bytearray(BYTES)
        self.frozen = None              # the shadow at the latest freeze
        self.freezes = 0
        self.lock = threading.Lock()
        self.stop = False

    def write(self):
        noise = os.urandom(1 << 16)
        while not self.stop:
            with self.lock:
                for _ in range(20):
                    at = random.randrange(PAGES if random.random() < 0.3 else 200) * PAGE
                    page = bytes(PAGE) if random.random() < 0.2 else noise[at % 60000:][:16] * (PAGE // 16)
                    self.ram[at:at + PAGE] = page
                    self.shadow[at:at + PAGE] = page
            time.sleep(0.002)

    def label(self):
        st = ioctl(self.log, 0x22, 'IIQQQQ16sII', 0, 0, 0, 0, 0, bytes(16), 0, 0)
        return st[6].hex() if any(st[6]) else None

    def freeze(self, base):
        entry = ctypes.create_string_buffer(struct.pack('=ii16s', self.mem, self.log, bytes.fromhex(base or '00' * 16)))
        with self.lock:
            view = ioctl(self.dev, 0x03, 'IIQIiQQQQ', 1 if base else 0, ctypes.addressof(entry), 1, -1, 0, 0, 0, 0)[4]
            self.frozen = bytes(self.shadow)
            self.freezes += 1
        return view

    def answer(self, conn, req):
        if req['cmd'] == 'status':
            return {'ok': True, 'disks': [], 'base': self.label()}, []
        if req['cmd'] == 'snapshot':
            try:
                view = self.freeze(req.get('base'))
            except OSError as e:
                return {'ok': False, 'errno': e.errno, 'error': os.strerror(e.errno)}, []
            state = os.memfd_create('state')
            os.write(state, b'state')
            return {'ok': True, 'pause_ns': 1, 'freeze_ns': 1, 'mem_bytes': BYTES, 'disks': [],
                    'memories': [{'name': 'memory', 'bytes': BYTES, 'incremental': 'base' in req}],
                    'incremental': 'base' in req, 'vm': {'name': 'live'}}, [view, state]
        return {'ok': True}, []

    def talk(self, conn):
        lines = b''
        with conn:
            while True:
                try:
                    more = conn.recv(65536)
                except OSError:
                    return
                if not more:
                    return
                lines += more
                while b'\n' in lines:
                    line, lines = lines.split(b'\n', 1)
                    reply, fds = self.answer(conn, json.loads(line))
                    try:
                        socket.send_fds(conn, [json.dumps(reply).encode() + b'\n'], fds)
                    except OSError:
                        pass
                    for fd in fds:
                        os.close(fd)

    def serve(self):
        s = socket.socket(socket.AF_UNIX)
        s.bind(work + '/live.sock')
        s.listen(8)
        while True:
            threading.Thread(target=self.talk, args=(s.accept()[0],), daemon=True).start()


def vmplat(*args):
    return subprocess.run(('vmplat',) + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def names():
    return {s['name']: s['id'] for s in json.loads(subprocess.check_output(('vmplat', 'snap', 'list', '--json')))}


def as_frozen(name, frozen):
    out = work + '/out'
    r = vmplat('snap', 'export', '--raw', out, name)
    if r.returncode:
        print('#', r.stdout)
        return False
    with open(out, 'rb') as f:
        data = f.read()
    os.unlink(out)
    if data == frozen:
        return True
    bad = [p for p in range(PAGES) if data[p * PAGE:(p + 1) * PAGE] != frozen[p * PAGE:(p + 1) * PAGE]]
    print('# %s: %d pages differ, first %d; %d bytes' % (name, len(bad), bad[0] if bad else -1, len(data)))
    return False


def main():
    guest = Guest()
    threading.Thread(target=guest.serve, daemon=True).start()
    writer = threading.Thread(target=guest.write, daemon=True)
    writer.start()
    time.sleep(0.3)

    r = vmplat('vm', 'snapshot', '-i', 'live', 'early')
    ok(r.returncode == 1 and 'full one' in r.stdout, 'no increment before there is a full snapshot')
    begun = time.monotonic()
    r = vmplat('vm', 'snapshot', 'live', 'base')
    took = time.monotonic() - begun
    if r.returncode:
        print('#', r.stdout)
    ok(r.returncode == 0 and as_frozen('base', guest.frozen), 'a full snapshot is memory as it was at the freeze')
    ok(guest.label() == names()['base'], 'the log stands at it')

    killed = survived = unlabelled = done = bad = 0
    kept = {}
    for i in range(ROUNDS):
        name, before, label = 'inc%d' % i, guest.freezes, guest.label()
        p = subprocess.Popen(('vmplat', 'vm', 'snapshot', '-i', 'live', name), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        if i % 3:
            time.sleep(random.random() * took)
            p.kill()
        out = p.communicate()[0]
        killed += p.returncode == -9
        there = names()
        if p.returncode > 0 or (p.returncode == 0) > (name in there):
            print('# %s: %s' % (name, out))
            bad += 1
        if name in there:
            kept[name] = guest.frozen
            done += 1
            survived += p.returncode != 0
            if guest.label() != there[name]:    # durable, but the kernel was not told
                unlabelled += 1
                r = vmplat('vm', 'snapshot', '--base', name, 'live', 'refused')
                if r.returncode != 1 or 'not the latest' not in r.stdout or guest.label() != label:
                    print('#', r.stdout)
                    bad += 1
        elif guest.label() != label:
            print('# the log forgot pages that nobody stored')
            bad += 1
        if name in there and not as_frozen(name, guest.frozen):
            bad += 1
    ok(not bad and killed and done, '%d increments, %d killed (%d of these were durable, %d not yet committed): each that '
       'is there is memory as it was at its freeze' % (ROUNDS, killed, survived, unlabelled))
    r = vmplat('vm', 'snapshot', '-i', '--codec', 'lz4', 'live', 'last')
    ok(r.returncode == 0 and as_frozen('last', guest.frozen), 'and so is the last')
    first = next(iter(kept), None)
    ok(not first or as_frozen(first, kept[first]), 'the first of them has not changed')
    ok(vmplat('snap', 'verify', '--all').returncode == 0, 'every snapshot verifies')
    ok(vmplat('snap', 'gc', '--dry-run').stdout.startswith('0 unfinished'), 'nothing is left of those that were killed')

    r = vmplat('vm', 'snapshot', '--base', 'base', 'live', 'old')
    ok(r.returncode == 1 and 'not the latest' in r.stdout, 'an increment on what is not the latest is refused')
    ok('old' not in names(), 'and leaves nothing')
    guest.stop = True
    writer.join()


try:
    main()
finally:
    shutil.rmtree(work, ignore_errors=True)
done()
