#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The verbs of the command on a vmplatfs file that somebody is using.
. "$(dirname "$0")/../tap.sh"

m=$tmp/mnt
mkdir "$m"
mount -t vmplatfs -o size=256M none "$m"
clean_up() { rm -f "$tmp/go"; wait; umount "$m"; }

check "info" says '"loaded": true' vmplat info --json
check "info for people" says 'module interface' vmplat info
check "create" vmplat mem create --size 32M "$m/a"
check "create what exists" status 1 vmplat mem create --size 32M "$m/a"
check "says so" says 'File exists' vmplat mem create --size 32M "$m/a"
check "create elsewhere" says 'not on a vmplatfs' vmplat mem create --size 1M "$tmp/x"
check "leaves nothing behind" test ! -e "$tmp/x"
check "odd size" status 2 vmplat mem create --size 1000 "$m/x"
check "show" says '"bytes": 33554432' vmplat mem show --json "$m/a"
check "show no memory" says 'not a memory file' vmplat mem show /etc/passwd
touch "$tmp/go"
(while [ -e "$tmp/go" ]; do dd if=/dev/urandom of="$m/a" bs=64K count=16 seek=$((RANDOM % 496)) conv=notrunc status=none; done) &
writer=$!
check "log watch" vmplat log watch -i 0.5 -n 4 --json "$m/a"
cp "$out" "$tmp/watch"
check "sees writes" grep -q '"dirty_pages":[1-9]' "$tmp/watch"
check "prints a line an interval" test "$(wc -l <"$tmp/watch")" = 4
check "view" vmplat view -o "$tmp/image" "$m/a"
check "has the length" test "$(stat -c %s "$tmp/image")" = 33554432
check "does not overwrite" status 1 vmplat view -o "$tmp/image" "$m/a"
check "with waiting writers" vmplat view --side 64K --block --json -o "$tmp/image2" "$m/a"
rm "$tmp/go"
wait $writer
check "at rest" vmplat view -o "$tmp/image3" "$m/a"
check "it is the file" cmp "$tmp/image3" "$m/a"
vmplat mem create --size 8M "$m/sparse"
printf x | dd of="$m/sparse" bs=1 seek=5000000 conv=notrunc status=none
check "two files" vmplat view -o "$tmp/both" "$m/sparse" "$m/a"
check "one after the other" cmp "$tmp/both" <(cat "$m/sparse" "$m/a")
check "holes stay holes" test "$(du -k "$tmp/both" | cut -f1)" -lt $((33 * 1024))
done_testing
