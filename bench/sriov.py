#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""sriov.py NAME: virtual functions made by "vmplat sriov apply", beside a script that writes to sysfs.

In the test host, with an igb plugged. Rounds in turns, each beginning with the other one; the median counts. Removing
the VFs again is not measured.
"""
import os, statistics, subprocess, sys, time

sys.path.insert(0, os.environ['VMPLAT_SRC'] + '/selftests/dev')
from host import PCI, find, link, modprobe, qmp, wait, write

NR = 7          # what an igb has
ROUNDS = 6      # an even number

NAMES = {'vf-create-vs-sysfs': '', 'vf-vfio-vs-sysfs': 'vfio-pci'}


def ours(pf, driver):
    text = '[pf %s]\nnumvfs = %d\n%s' % (pf, NR, 'driver = %s\n' % driver if driver else '')
    subprocess.run(['vmplat', 'sriov', 'apply', '--dir', '/tmp/sriov', '-'], input=text, text=True, check=True,
                   stdout=subprocess.DEVNULL)


def peer(pf, driver):
    """As scripts do it that keep the host's driver away."""
    give = 'for v in virtfn*; do echo %s >$v/driver_override; a=$(readlink $v); echo ${a##*/} >/sys/bus/pci/drivers_probe; done' % driver
    subprocess.run(['sh', '-ec', 'cd %s; echo 0 >sriov_drivers_autoprobe; echo %d >sriov_numvfs; %s' % (
        PCI + pf, NR, give if driver else '')], check=True)


def remove_ours(pf):
    subprocess.run(['vmplat', 'sriov', 'destroy', pf], check=True, stdout=subprocess.DEVNULL)


def remove_peers(pf):
    write(PCI + pf + '/sriov_numvfs', '0')
    write(PCI + pf + '/sriov_drivers_autoprobe', '1')


def measure(pf, driver, make, remove):
    start = time.monotonic()
    make(pf, driver)
    took = (time.monotonic() - start) * 1000
    got = [link('%s%s/virtfn%d/driver' % (PCI, pf, i)) or '' for i in range(NR)]
    if got != [driver] * NR:
        sys.exit('sriov.py: the VFs have the drivers %s' % got)
    remove(pf)
    return took


def start():
    """What the command takes before it does anything, much of it the loader's: mapping libraries is slow on an emulated CPU."""
    begin = time.monotonic()
    subprocess.run(['vmplat', '--version'], check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - begin) * 1000


def main():
    name = sys.argv[1]
    driver = NAMES[name]
    os.makedirs('/tmp/sriov', exist_ok=True)
    qmp('device_add', {'driver': 'igb', 'id': 'igb0', 'bus': 'rp1'})
    modprobe('igb', 'vfio-pci')
    pf = find(0x8086, 0x10c9)
    wait(lambda: os.path.exists(PCI + pf + '/net'))
    both = [(ours, remove_ours, []), (peer, remove_peers, [])]
    for i in range(ROUNDS):
        for make, remove, ms in both if i % 2 else reversed(both):
            ms.append(measure(pf, driver, make, remove))
    mine, its = [statistics.median(ms) for _, _, ms in both]
    print('# %d VFs; ours %s ms, sysfs %s ms' % (NR, *[' '.join('%.0f' % x for x in ms) for _, _, ms in both]))
    print('# of ours, %.0f ms are the start of the command' % statistics.median(start() for _ in range(ROUNDS)))
    print('bench %s ours=%.0f peer=%.0f unit=ms ratio=%.3g' % (name, mine, its, its / mine))


main()
