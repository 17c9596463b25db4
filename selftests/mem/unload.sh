#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The module goes away right after its last user, however that one ended, and comes back.
dir=$(dirname "$0")/../../build/selftests/mem
n=0
check() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n $2"; else echo "not ok $n $2"; bad=1; fi; }
bad=0
for i in 1 2 3; do
	"$dir/shadow" -t 30 -d 0 >/dev/null 2>&1 &
	pid=$!
	sleep 2
	rmmod vmplat 2>/dev/null
	[ $? -ne 0 ]; check $? "rmmod is refused while a test runs"
	kill -9 $pid
	wait $pid 2>/dev/null
	# its children die of their parent's death
	for t in 1 2 3 4 5 6 7 8 9 10; do rmmod vmplat 2>/dev/null && break; sleep 0.5; done
	[ ! -e /sys/module/vmplat ]; check $? "rmmod after kill -9"
	insmod "$VMPLAT_SRC/build/kmod/$(uname -r)/vmplat.ko"; check $? "insmod again"
done
# as udev's rule and the host have it
chgrp kvm /dev/vmplat && chmod 660 /dev/vmplat
echo "1..$n"
exit $bad
