#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""iso.py [NAME...]: reading disc images, beside bsdtar, xorriso and 7zz; the fastest of them is the peer.

Runs natively. Images are made once, in build/bench-iso. Rounds are interleaved, and the best of each reader counts: what
else the machine does is in all others. A round before them warms the page cache. The most memory that each had is printed
with its time. What is extracted goes to a tmpfs, so that the readers are measured and not
the disk; BENCH_ISO_TARGET names another place.
"""
import os, shutil, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VMPLAT = TOP + '/build/user/bin/vmplat'
PEAK = TOP + '/build/bench/peak'
IMAGES = TOP + '/build/bench-iso'
NR_DIRS, NR_FILES = 1000, 100000
BIG = 4500 << 20
MEMORY_MAX = 16 << 20   # what the reader promises


def note(text):
    print('# ' + text, flush=True)


def remove(path):
    subprocess.call(['chmod', '-R', 'u+rwx', path], stderr=subprocess.DEVNULL)
    shutil.rmtree(path, ignore_errors=True)


def make(name, fill, *options):
    image = '%s/%s.iso' % (IMAGES, name)
    if os.path.exists(image):
        return image
    note('making %s.iso' % name)
    top = '%s/%s.src' % (IMAGES, name)
    remove(top)
    os.makedirs(top)
    fill(top)
    subprocess.run(['xorriso', '-as', 'mkisofs', '-quiet', '-R', *options, '-o', image + '.new', top], check=True,
                   stderr=subprocess.DEVNULL)
    remove(top)
    os.rename(image + '.new', image)
    return image


def fill_many(top):
    for d in range(NR_DIRS):
        where = '%s/part%02d/directory-%03d' % (top, d // 50, d)
        os.makedirs(where)
        for f in range(NR_FILES // NR_DIRS):
            with open('%s/file-%05d.txt' % (where, f), 'wb') as out:
                out.write(b'%d %d\n' % (d, f) * (1 + (d * 100 + f) * 7919 % 400))


def fill_big(top):
    block = os.urandom(1 << 20)
    with open(top + '/big', 'wb') as out:
        for i in range(BIG >> 20):
            out.write(block)


def spent(command, cwd):
    begin = time.monotonic()
    p = subprocess.run(command, shell=True, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, executable='/bin/bash')
    took = time.monotonic() - begin
    if p.returncode:
        sys.exit('bench: %s: %s' % (command, p.stderr.decode(errors='replace')[-500:]))
    return took


def race(name, commands, rounds, prepare=None, cleanup=None):
    """commands: reader -> shell command, which begins with the reader; ours is 'ours'."""
    took = {who: [] for who in commands}
    peak = {who: 0 for who in commands}
    kib = IMAGES + '/peak'
    for turn in range(rounds + 1):
        for who, command in commands.items():
            where = prepare() if prepare else '/'
            t = spent('set -o pipefail; %s %s %s' % (PEAK, kib, command), where)
            with open(kib) as f:
                peak[who] = max(peak[who], int(f.read()))
            if turn:
                took[who].append(t)
            if cleanup:
                cleanup(where)
    best = {who: min(t) for who, t in took.items()}
    note(', '.join('%s %.3f s (to %.3f), %.1f MiB' % (who, t, max(took[who]), peak[who] / 1024) for who, t in best.items()))
    if peak['ours'] > MEMORY_MAX >> 10:
        sys.exit('bench: %s takes %d KiB of memory' % (name, peak['ours']))
    peer = min(t for who, t in best.items() if who != 'ours')
    print('bench %s ours=%.3f peer=%.3f unit=s ratio=%.2f' % (name, best['ours'], peer, peer / best['ours']), flush=True)


def bench_list(name):
    image = make('many', fill_many)
    race(name, {
        'ours': '%s iso ls -lR %s' % (VMPLAT, image),
        'bsdtar': 'bsdtar -tvf ' + image,
        'xorriso': 'xorriso -indev %s -find / -exec lsdl' % image,
        '7zz': '7zz l ' + image,
    }, 5)


def extract(name, image, rounds):
    place = os.environ.get('BENCH_ISO_TARGET', '/dev/shm')
    race(name, {
        'ours': '%s iso extract -C . %s' % (VMPLAT, image),
        'bsdtar': 'bsdtar -xf ' + image,
        'xorriso': 'xorriso -osirrox on -indev %s -extract / .' % image,
        '7zz': '7zz x -y ' + image,
    }, rounds, lambda: tempfile.mkdtemp(prefix='bench-iso.', dir=place), remove)


def bench_extract(name):
    extract(name, make('many', fill_many), 3)


def bench_cat(name):
    """Through a pipe, as a user would; every reader's bytes are compared once."""
    image = make('big', fill_big, '-iso-level', '3')
    commands = {
        'ours': '%s iso cat %s big' % (VMPLAT, image),
        'bsdtar': 'bsdtar -xOf %s big' % image,
        'xorriso': 'xorriso -osirrox on -indev %s -concat overwrite - /big' % image,
        '7zz': '7zz x -so %s big' % image,
    }
    sums = {who: subprocess.check_output(c + ' 2>/dev/null | cksum', shell=True) for who, c in commands.items()}
    if len(set(sums.values())) != 1 or str(BIG) not in sums['ours'].decode():
        sys.exit('bench: the readers do not agree on the bytes: %s' % sums)
    race(name, {who: c + ' | cat >/dev/null' for who, c in commands.items()}, 7)


def bench_extract_large(name):
    extract(name, make('big', fill_big, '-iso-level', '3'), 3)


BENCHES = {'iso-list-vs-best': bench_list, 'iso-extract-vs-best': bench_extract, 'iso-cat-large-vs-best': bench_cat,
           'iso-extract-large-vs-best': bench_extract_large}

os.makedirs(IMAGES, exist_ok=True)
for tool in 'bsdtar', 'xorriso', '7zz':
    if not shutil.which(tool):
        sys.exit('bench: %s is needed: make setup' % tool)
for name in sys.argv[1:] or BENCHES:
    BENCHES[name](name)
