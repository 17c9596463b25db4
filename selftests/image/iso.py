#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Disc images, read by us and by others: real ones from packages, and ones that xorriso and genisoimage make here for
# each feature. For every tree of each, what "vmplat iso extract" writes is compared with what bsdtar, xorriso and 7zz
# write and with what the kernel's isofs and udf show when the image is mounted: names, types, lengths, modes, link
# targets, times, contents. Where they are known to differ, the table says who is wrong and why.
#
# Natively it runs as well (without the kernel's side if loop devices cannot be mounted).
import glob, hashlib, json, os, re, shutil, stat, subprocess, sys, tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + '/..')
import tap

CACHE = os.environ.get('VMPLAT_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'vmplat')
VMPLAT = shutil.which('vmplat') or os.path.join(os.path.dirname(__file__), '../../build/user/bin/vmplat')
work = tempfile.mkdtemp(prefix='iso.', dir='/tmp')


def ok(good, what, *details):
    return tap.ok(good, what, '\n'.join(str(d) for d in details))


def run(*argv, **kw):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors='replace', **kw)
    return p.returncode, p.stdout


def vmplat(*argv):
    p = subprocess.run((VMPLAT, 'iso') + argv, stdin=subprocess.DEVNULL, capture_output=True)
    return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')


# ---- trees ---------------------------------------------------------------------------------------------------------

def tree(top):
    """What is below top: path -> attributes."""
    found = {}
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            a = {'type': stat.S_IFMT(st.st_mode), 'mode': stat.S_IMODE(st.st_mode), 'mtime': int(st.st_mtime)}
            if stat.S_ISREG(st.st_mode):
                a['size'] = st.st_size
                with open(path, 'rb') as f:
                    a['data'] = hashlib.sha1(f.read()).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                del a['mode']
                a['link'] = os.readlink(path)
            found[os.path.relpath(path, top)] = a
    return found


def compare(ours, theirs, but=(), without=()):
    """Lines that tell how the trees differ; but: attributes, without: names not to look at."""
    lines = []
    for path in sorted(set(ours) | set(theirs)):
        if any(path == w or path.startswith(w + '/') for w in without):
            continue
        if path not in ours or path not in theirs:
            lines.append('only %s: %s' % ('theirs' if path not in ours else 'ours', path))
            continue
        for key in set(ours[path]) | set(theirs[path]):
            kind = {stat.S_IFDIR: 'dirtime', stat.S_IFLNK: 'linktime'}.get(ours[path].get('type'))
            if key in but or (key == 'mtime' and kind in but):
                continue
            if ours[path].get(key) != theirs[path].get(key):
                lines.append('%s: %s is %s, theirs %s' % (path, key, ours[path].get(key), theirs[path].get(key)))
    return lines


def fresh(name):
    path = os.path.join(work, name)
    subprocess.call(['chmod', '-R', 'u+rwx', path], stderr=subprocess.DEVNULL)
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    return path


# ---- the readers ---------------------------------------------------------------------------------------------------

def ours(image, which):
    into = fresh('ours')
    rc, _, err = vmplat('extract', '--owner', '--tree', which, '-C', into, image)
    return tree(into) if rc == 0 else {'extract failed': {'why': err}}


def bsdtar(image, which):
    options = {'rr': '', 'joliet': '!rockridge', 'iso': '!rockridge,!joliet'}[which]
    into = fresh('theirs')
    run('bsdtar', '-xpf', image, '-C', into, *(['--options', options] if options else []))
    return tree(into)


def xorriso(image, which):
    into = fresh('theirs')
    run('xorriso', '-osirrox', 'on', '-indev', image, '-extract', '/', into)
    return tree(into)


def sevenzip(image, which):
    into = fresh('theirs')
    run('7zz', 'x', '-y', '-snl', '-o' + into, image)
    shutil.rmtree(os.path.join(into, '[BOOT]'), ignore_errors=True)
    return tree(into)


def kernel(image, which):
    fs, options = {'rr': ('iso9660', 'ro'), 'joliet': ('iso9660', 'ro,norock,utf8'),
                   'iso': ('iso9660', 'ro,norock,nojoliet,map=off'), 'udf': ('udf', 'ro')}[which]
    at = os.path.join(work, 'mnt')
    os.makedirs(at, exist_ok=True)
    rc, out = run('mount', '-t', fs, '-o', 'loop,' + options, image, at)
    if rc:
        return None
    try:
        found = tree(at)
        # without a mapping it shows names by the letter: "NAME.;1"
        return found if which != 'iso' else {p.removesuffix(';1').removesuffix('.'): v for p, v in found.items()}
    finally:
        run('umount', at)


READERS = {'bsdtar': bsdtar, 'xorriso': xorriso, '7zz': sevenzip, 'kernel': kernel}

# Attributes that a reader does not restore, or invents, whatever the image.
BUT = {
    ('bsdtar', 'joliet'): ('mode',),    # there are none; each has its own idea of a good one
    ('bsdtar', 'iso'): ('mode',),
    ('kernel', 'joliet'): ('mode',),
    # its directories have the time of their own record, ours that of the record that names them
    ('kernel', 'iso'): ('mode', 'dirtime'),
    ('xorriso', 'rr'): ('linktime',),   # it does not set the times of links
    ('7zz', 'rr'): ('mode', 'mtime', 'type', 'size', 'data', 'link'),   # names; contents are compared apart
    ('7zz', 'joliet'): ('mode', 'mtime'),
    ('7zz', 'udf'): ('mode', 'mtime', 'type', 'size', 'data', 'link'),
}

# image, reader, tree -> names left out. Each is a defect or a choice of the reader named.
WITHOUT = {
    # libarchive hides the directory that relocated ones are kept in
    ('deep', 'bsdtar', 'rr'): ('rr_moved',),
    ('bridge', 'bsdtar', 'rr'): ('rr_moved',),
    # it joins the parts of a link's target without the slash where a field ends, and so has another target
    ('level4', 'bsdtar', 'rr'): ('longlink',),
    ('zisofs1', 'bsdtar', 'rr'): ('longlink',),
    ('hardlinks', 'bsdtar', 'rr'): ('longlink',),
    # links that lead out of the target, and what is no file, are left out
    ('level4', '7zz', 'rr'): ('absolute', 'dir/link', 'longlink', 'fifo'),
    ('bridge', '7zz', 'udf'): ('absolute', 'dir/link', 'longlink', 'fifo'),
}

# Readers that cannot read a tree of an image, and why.
CANNOT = {
    ('zisofs1', 'xorriso'): 'keeps zisofs files compressed when it extracts',
    ('zisofs2', 'xorriso'): 'keeps zisofs files compressed when it extracts',
    ('zisofs2', 'bsdtar'): 'does not know version 2',
    ('zisofs2', 'kernel'): 'does not know version 2',
    ('zisofs1', '7zz'): 'does not know zisofs',
    ('zisofs2', '7zz'): 'does not know zisofs',
}


def against(name, image, which, reader):
    if (name, reader) in CANNOT:
        return
    a = ours(image, which)
    b = READERS[reader](image, which)
    what = '%s, %s tree, like %s' % (name, which, reader)
    if b is None:
        return tap.skip(what + ': cannot mount here')
    diff = compare(a, b, BUT.get((reader, which), ()), WITHOUT.get((name, reader, which), ()))
    if reader == '7zz' and not diff and which != 'joliet':
        # it writes links as files or as links of its own making: compare what is a file for both
        diff = compare({p: v for p, v in a.items() if 'data' in v and 'data' in b.get(p, {})},
                       {p: v for p, v in b.items() if 'data' in v and 'data' in a.get(p, {})}, ('mode', 'mtime'))
    ok(not diff and len(a) > 0, what, *diff[:12])


# ---- images --------------------------------------------------------------------------------------------------------

def put(path, data, mode=0o644, when=1000000000):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)
    os.chmod(path, mode)
    os.utime(path, (when, when))


def source(links=True):
    top = fresh('src')
    put(top + '/readme.txt', b'read me\n' * 40, 0o640, 946684799)
    put(top + '/dir/numbers', b''.join(b'%d\n' % i for i in range(20000)), 0o755, 1234567890)
    put(top + '/dir/zeroes', bytes(100000), 0o600)
    put(top + '/dir/empty', b'', 0o444)
    put(top + '/dir/noise', os.urandom(70001), 0o4711)
    put(top + '/dir/sub/A long name, with blanks and \u00fcml\u00e4uts \u20ac.text', b'x')
    for i in range(60):
        put(top + '/many/file%d' % i, b'%d' % i * (i * 50))
    put(top + '/' + '/'.join('d%d' % i for i in range(12)) + '/bottom', b'deep\n')
    put(top + '/boot/loader.bin', bytes(range(256)) * 20)
    put(top + '/boot/efi.img', b'\xeb\x3c\x90' + bytes(3) + bytes(5000))
    os.mkdir(top + '/void', 0o1777)
    os.chmod(top + '/void', 0o1777)
    if links:
        os.symlink('../readme.txt', top + '/dir/link')
        os.symlink('/etc/passwd', top + '/absolute')
        os.symlink('x' * 200 + '/../' + 'y' * 200 + '/' + 'z' * 100, top + '/longlink')
        os.mkfifo(top + '/fifo', 0o620)
        os.link(top + '/readme.txt', top + '/dir/hard')
    for where, dirs, files in os.walk(top, topdown=False):
        os.utime(where, (1100000000, 1100000000))
    return top


def make(name, *argv):
    image = os.path.join(work, name + '.iso')
    rc, out = run(*[a.replace('@', image) for a in argv])
    if rc:
        ok(False, 'making ' + name, *out.splitlines()[-5:])
    return image


def clean(name, image):
    rc, out, err = vmplat('check', '-q', image)
    ok(rc == 0, name + ': nothing wrong', *(out + err).splitlines()[:8])


def like_source(name, image, top, but=(), without=()):
    diff = compare(ours(image, 'auto'), tree(top), but, without)
    ok(not diff, name + ': what was put in', *diff[:12])


def generated():
    top = source()
    mkisofs = ('xorriso', '-as', 'mkisofs', '-quiet', '-R')
    boot = ('-c', 'boot/catalog', '-b', 'boot/loader.bin', '-no-emul-boot', '-boot-load-size', '4',
            '-boot-info-table', '-eltorito-alt-boot', '-e', 'boot/efi.img', '-no-emul-boot',
            '-append_partition', '2', '0xef', top + '/boot/efi.img', '-appended_part_as_gpt')
    image = make('level4', *mkisofs, '-J', '-joliet-long', '-iso-level', '4', '-o', '@', top)
    clean('level4', image)
    like_source('level4', image, top)
    for reader in ('bsdtar', 'xorriso', '7zz', 'kernel'):
        against('level4', image, 'rr', reader)
    for reader in ('bsdtar', 'kernel'):
        against('level4', image, 'joliet', reader)
        against('level4', image, 'iso', reader)
    with_links(image, top)

    image = make('hardlinks', 'xorriso', '-outdev', '@', '-hardlinks', 'on', '-map', top, '/', '-commit')
    like_source('hardlinks', image, top)
    ours(image, 'rr')
    ok(os.stat(work + '/ours/readme.txt').st_ino == os.stat(work + '/ours/dir/hard').st_ino, 'hard links are links')
    against('hardlinks', image, 'rr', 'bsdtar')

    for version in '1', '2':
        name = 'zisofs' + version
        image = make(name, 'xorriso', '-outdev', '@', '-zisofs', 'level=9:version_2=' + ('on' if version == '2' else 'off'),
                     '-map', top, '/', '-set_filter_r', '--zisofs', '/', '--', '-commit')
        clean(name, image)
        like_source(name, image, top)
        out = vmplat('ls', '--json', image, 'dir')[1]
        ok(any('zisofs' in json.loads(line)['flags'] for line in out.splitlines()), name + ' is compressed')
        for reader in READERS:
            against(name, image, 'rr', reader)

    image = make('bootable', *mkisofs, *boot, '-o', '@', top)
    booting(image)

    # genisoimage breaks long links (their first field has a wrong length), which "check" is to notice
    image = make('badlink', 'genisoimage', '-quiet', '-R', '-o', '@', top)
    rc, out, _ = vmplat('check', image)
    ok('rr-link' in out, "genisoimage's long links are noticed", *out.splitlines()[:5])
    os.unlink(top + '/longlink')
    image = make('deep', 'genisoimage', '-quiet', '-R', '-o', '@', top)
    clean('deep', image)
    like_source('deep', image, top, ('dirtime',), ('rr_moved',))
    for reader in ('bsdtar', 'xorriso', 'kernel'):
        against('deep', image, 'rr', reader)
    image = make('bridge', 'genisoimage', '-quiet', '-udf', '-J', '-joliet-long', '-R', '-o', '@', top)
    clean('bridge', image)
    against('bridge', image, 'rr', 'bsdtar')
    against('bridge', image, 'rr', 'kernel')
    against('bridge', image, 'udf', 'kernel')
    against('bridge', image, 'udf', '7zz')
    against('bridge', image, 'joliet', 'kernel')
    image = make('plain', 'genisoimage', '-quiet', '-iso-level', '1', '-o', '@', top)
    clean('plain', image)
    for reader in ('bsdtar', 'kernel'):
        against('plain', image, 'iso', reader)
    fat('12', '2M')
    fat('16', '8M', '-s', '2')
    fat('32', '34M', '-s', '1')


# times in FAT are local, names of the command line UTF-8
FAT_ENV = dict(os.environ, TZ='UTC0', LC_ALL='C.UTF-8', PATH=os.environ['PATH'] + ':/usr/sbin:/sbin')


def mtools(image, which):
    into = fresh('theirs')
    run('mcopy', '-s', '-m', '-n', '-i', work + '/efi.img', '::', into, env=FAT_ENV)
    return tree(into)


def vfat(image, which):
    at = os.path.join(work, 'mnt')
    os.makedirs(at, exist_ok=True)
    rc, out = run('mount', '-t', 'vfat', '-o', 'loop,ro,utf8,tz=UTC', work + '/efi.img', at)
    if rc:
        return None
    try:
        return tree(at)
    finally:
        run('umount', at)


def fat(bits, size, *options):
    """What UEFI boots from. Files that were deleted make room for one in many pieces."""
    top, efi = source(links=False), work + '/efi.img'
    subprocess.call(['rm', '-f', efi])
    run('truncate', '-s', size, efi)
    # no file is there whose name differs in case only: mtools would rename it
    for command in (('mkfs.vfat', '-F', bits, '-n', 'EFI', *options, efi),
                    ('mcopy', '-s', '-m', '-i', efi, *sorted(glob.glob(top + '/*')), '::'),
                    ('mdel', '-i', efi, '::many/file?[02468]', '::many/file[13579]'),
                    # FAT32 knows where free clusters begin, but not here
                    ('dd', 'if=/dev/zero', 'of=' + efi, 'bs=1', 'seek=1004', 'count=4', 'conv=notrunc') if bits == '32' else ('true',),
                    ('mcopy', '-m', '-i', efi, top + '/dir/numbers', '::In pieces.data')):
        rc, out = run(*command, env=FAT_ENV)
        if rc:
            ok(False, 'making a FAT%s' % bits, *out.splitlines()[-5:])
    name = 'fat' + bits
    image = make(name, 'xorriso', '-as', 'mkisofs', '-quiet', '-R', '-eltorito-alt-boot', '-e',
                 '--interval:appended_partition_2:all::', '-no-emul-boot', '-append_partition', '2', '0xef', efi,
                 '-o', '@', top + '/boot')
    clean(name, image)
    a = ours(image, 'efi')
    for reader in mtools, vfat:
        b, what = reader(image, 'efi'), '%s, efi tree, like %s' % (name, reader.__name__)
        if b is None:
            tap.skip(what + ': cannot mount here')
            continue
        diff = compare(a, b, ('mode', 'mtime', 'dirtime') if reader == mtools else ('mode',))
        ok(not diff and a.get('In pieces.data', {}).get('size') == 108890, what, *diff[:12])
    f = json.loads(vmplat('ls', '--json', '--tree', 'efi', image, 'In pieces.data')[1].splitlines()[0])
    with open(image, 'rb') as disc:
        disc.seek(f['offset'])
        straight = disc.read(f['bytes'])
    with open(top + '/dir/numbers', 'rb') as data:
        ok(straight != data.read(), name + ' has it in pieces')


def with_links(image, top):
    """The ways in which extraction must not be led astray."""
    into = fresh('safe')
    outside = fresh('outside')
    os.symlink(outside, into + '/dir')
    rc, _, err = vmplat('extract', '-C', into, image)
    ok(rc == 1 and not os.listdir(outside), 'a link in the target is not followed', *err.splitlines()[:3])
    rc, _, err = vmplat('extract', '-C', into, image)
    ok(rc == 1 and 'exists' in err, 'what exists is not replaced')
    os.unlink(into + '/dir')
    rc, _, err = vmplat('extract', '-f', '--owner', '-C', into, image)
    ok(rc == 0 and not compare(tree(into), tree(top)), 'unless asked to', *err.splitlines()[-3:])
    into = fresh('safe')
    rc, _, err = vmplat('extract', '-C', into, image, '/dir/sub', 'readme.txt')
    ok(rc == 0 and sorted(os.listdir(into)) == ['dir', 'readme.txt'] and os.listdir(into + '/dir') == ['sub'],
       'some paths', *err.splitlines()[:3])
    rc, _, err = vmplat('extract', '-C', into, image, '../etc')
    ok(rc == 1, 'a path that leads up is refused')
    p = subprocess.run([VMPLAT, 'iso', 'cat', image, 'dir/numbers', 'dir/link'], capture_output=True)
    with open(top + '/dir/numbers', 'rb') as a, open(top + '/readme.txt', 'rb') as b:
        ok(p.stdout == a.read() + b.read(), 'cat, through a link')
    rc, out, _ = vmplat('ls', '-lR', image)
    ok(rc == 0 and out.count('\n') > 80 and '/dir/sub:' in out, 'ls -lR')
    rc, _, err = vmplat('ls', '--tree', 'udf', image)
    ok(rc == 1 and 'no udf tree' in err, 'a tree that is not there')


def booting(image):
    rc, out, _ = vmplat('boot', '--json', image)
    o = json.loads(out) if rc == 0 else {'boot': []}
    b = o['boot']
    ok(len(b) == 2 and b[0]['platform'] == 'bios' and b[0]['path'] == 'boot/loader.bin' and b[0]['bytes'] == 5120 and
       b[0].get('info_table_ok') and b[1]['platform'] == 'uefi' and b[1]['path'] == 'boot/efi.img' and
       b[1]['bytes'] == 5006, 'boot entries', out)
    ok({p['scheme'] for p in o['partitions']} == {'mbr', 'gpt'}, 'partitions', *o['partitions'])
    clean('bootable', image)


# Of these, libisofs made two; in its Joliet trees ".." of a directory leads to itself, a warning.
PACKAGED = {
    'ipxe.iso': ('rr', 'joliet'), 'grub-rescue-cdrom.iso': ('rr',),
    'memtest86+x64.iso': ('rr', 'joliet'), 'memtest86+ia32.iso': ('rr', 'joliet'),
}


def packaged():
    for name, trees in PACKAGED.items():
        image = os.path.join(CACHE, 'discs', name)
        if not os.path.exists(image):
            ok(False, name, 'it is not in the cache: selftests/host/fetch discs')
            continue
        clean(name, image)
        for which in trees:
            for reader in ('bsdtar', 'kernel') + (('xorriso',) if which == 'rr' else ()):
                against(name, image, which, reader)
    rc, out, _ = vmplat('boot', '--json', os.path.join(CACHE, 'discs', 'memtest86+x64.iso'))
    b = json.loads(out)['boot'] if rc == 0 else []
    ok(len(b) == 2 and b[0]['emulation'] == 'floppy-1440' and b[0]['bytes'] == 1474560 and b[1]['platform'] == 'uefi' and
       b[1]['bytes'] == 4194304, "memtest86+'s boot images, the second behind the volume's end", out)


def fits(command):
    return all(shutil.which(c, path=FAT_ENV['PATH']) for c in command)


def documented():
    """Every name an issue can have is in the documentation."""
    top = os.path.join(os.path.dirname(os.path.realpath(__file__)), '../..')
    source = ''.join(open(f).read() for f in glob.glob(top + '/user/image/iso*.c'))
    names = set(re.findall(r'(?:iso_bad|iso_warn|iso_note|fault)\(\s*[^,"]+,\s*"([a-z0-9-]+)"', source))
    text = open(top + '/Documentation/iso.rst').read()
    missing = [n for n in sorted(names) if '``%s``' % n not in text]
    ok(len(names) > 50 and not missing, 'issues are documented', *missing)


try:
    documented()
    if fits(('bsdtar', 'xorriso', '7zz', 'genisoimage', 'mkfs.vfat', 'mcopy')):
        packaged()
        generated()
    else:
        ok(False, 'the other readers', 'bsdtar, xorriso, 7zz, genisoimage, dosfstools and mtools are needed: make setup')
finally:
    subprocess.call(['chmod', '-R', 'u+rwx', work])
    shutil.rmtree(work, ignore_errors=True)
tap.done()
