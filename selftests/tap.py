# SPDX-License-Identifier: GPL-2.0-only
"""TAP for tests in Python, as tap.h is for those in C.

    sys.path.insert(0, os.environ["VMPLAT_SRC"] + "/selftests")
    import tap

    tap.ok(2 > 1, "two is more than one")
    tap.done()
"""
import sys

run = failed = 0


def ok(held, what, why=""):
    """A check: prints its line, and why it failed if it did. Returns whether it held."""
    global run, failed
    run += 1
    print("%sok %d %s" % ("" if held else "not ", run, what), flush=True)
    if not held:
        failed += 1
        print("# %s" % str(why)[:3000].replace("\n", "\n# "), flush=True)
    return held


def skip(why):
    """A check that cannot be made here."""
    global run
    run += 1
    print("ok %d # SKIP %s" % (run, why), flush=True)


def skip_all(why):
    """Nothing of this test can be done here."""
    print("1..0 # SKIP %s" % why)
    sys.exit(0)


def done():
    """The end of the test."""
    print("1..%d" % run)
    sys.exit(1 if failed or not run else 0)
