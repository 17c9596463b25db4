#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A disc is booted as its own menu says: Debian's installer, laid out as on its discs, up to its first question. Another
# has no menu, but a unified kernel image for UEFI; the guest in it looks at its disc. Runs in the test host.
. "$(dirname "$0")/../tap.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
installer=$VMPLAT_CACHE/installer
export VMPLAT_RUN_DIR=$tmp/vms XDG_CACHE_HOME=$tmp/cache
clean_up() { vmplat vm stop i 2>/dev/null; vmplat vm stop d 2>/dev/null; }

[ -e "$installer/.complete" ] || { echo "# Debian's installer is not in the cache: selftests/host/fetch installer"; exit 1; }

# ---- the disc
mkdir -p "$tmp/disc/isolinux" "$tmp/disc/install.amd" "$tmp/disc/boot/grub" "$tmp/disc/.disk"
cp "$installer/linux" "$tmp/disc/install.amd/vmlinuz"
cp "$installer/initrd.gz" "$tmp/disc/install.amd/initrd.gz"
cp "$installer"/*.cfg "$tmp/disc/isolinux"
mv "$tmp/disc/isolinux/grub.cfg" "$tmp/disc/boot/grub"
mv "$tmp/disc/isolinux/syslinux.cfg" "$tmp/disc/isolinux/isolinux.cfg"
sed -i 's|debian-installer/amd64/boot-screens/||g; s|/\?debian-installer/amd64/linux|/install.amd/vmlinuz|g
	s|/\?debian-installer/amd64/|/install.amd/|g' "$tmp"/disc/isolinux/*.cfg "$tmp/disc/boot/grub/grub.cfg"
echo "a disc" >"$tmp/disc/.disk/info"
check "a disc is made" xorriso -as mkisofs -quiet -r -J -V 'DEBIAN TEST' -o "$tmp/debian.iso" "$tmp/disc"
rm -rf "$tmp/disc"

# ---- what it would boot
entry() { vmplat iso boot --entries --json "$tmp/debian.iso" | python3 -c '
import json, sys
for e in json.load(sys.stdin)["entries"]:
	print(e["label"], e["title"], e["kernel"], e["initrds"], e["arguments"], e.get("file"), e["default"], e.get("obstacle"), sep="|")'; }
check "isolinux' menu" says "^install|Install|/install.amd/vmlinuz|\['/install.amd/initrd.gz'\]|.*quiet.*|/isolinux/txt.cfg|True|None" entry
check "GRUB's menu" says "^|Install|/install.amd/vmlinuz|\['/install.amd/initrd.gz'\]|.*|/boot/grub/grub.cfg|False|None" entry
check "the menu's default" says "booting 'Install'" vmplat run --check "$tmp/debian.iso"
check "another entry" says "cmdline.*priority=low.*console=ttyS0 more" \
	vmplat run --check "$tmp/debian.iso" --iso-entry expert --append more
check "no such entry" says "has no entry 'nope'" not vmplat run --check "$tmp/debian.iso" --iso-entry nope
check "arguments of one's own" says "^cmdline *console=ttyS0 mine$" vmplat run --check "$tmp/debian.iso" --cmdline mine
check "kernel and initrd of one's own" says "^initrd *iso:/.disk/info " vmplat run --check --iso "$tmp/debian.iso" \
	--kernel "$VMPLAT_GUEST_KERNEL" --initrd iso:/.disk/info
check "not from the menu and from elsewhere" says "the entry has a kernel of its own" not vmplat run --check \
	"$tmp/debian.iso" --kernel iso:/install.amd/vmlinuz --iso-entry expert

# ---- the installer
begin=$SECONDS
check "the disc boots" vmplat run "$tmp/debian.iso" --name i --memory 1G --cpus 2 --console "$tmp/console" --detach
check "the installer asks its first question" wait_for "$tmp/console" "Select a language" 400
echo "# after $((SECONDS - begin)) s"
check "what it booted from" says "iso:/install.amd/vmlinuz" vmplat vm show i
check "stop" vmplat vm stop i

# ---- a disc for UEFI alone: in its boot image, systemd's stub with a kernel, its initrd and its arguments
cat >"$tmp/script" <<'GUEST'
mount -t iso9660 -o ro /dev/vdb /mnt && echo "DISC $(cat /mnt/info) ro=$(cat /sys/block/vdb/ro) $(cat /proc/cmdline)"
dd if=/dev/zero of=/dev/vdb bs=2k count=1 2>/dev/null || echo REFUSED
poweroff -f
GUEST
"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel 6.12 --module isofs --script "$tmp/script" || exit 1
printf 'console=ttyS0 quiet' >"$tmp/cmdline"
unified() {	# the addresses leave room for what comes before
	objcopy --add-section .cmdline="$tmp/cmdline" --change-section-vma .cmdline=0x30000 \
		--add-section .linux="$VMPLAT_GUEST_KERNEL" --change-section-vma .linux=0x2000000 \
		--add-section .initrd="$tmp/initrd" --change-section-vma .initrd=0x8000000 \
		/usr/lib/systemd/boot/efi/linuxx64.efi.stub "$tmp/ours.efi"
}
uefi_disc() {
	local bytes
	bytes=$(stat -c %s "$tmp/ours.efi")
	mkdir "$tmp/uefi" && echo "a disc" >"$tmp/uefi/info"
	truncate -s $((bytes + (8 << 20) & ~1048575)) "$tmp/uefi/efi.img"
	mformat -i "$tmp/uefi/efi.img" -T $((bytes + (8 << 20) >> 20 << 11)) -h 64 -s 32 :: &&
		mmd -i "$tmp/uefi/efi.img" ::/EFI ::/EFI/Linux &&
		mcopy -i "$tmp/uefi/efi.img" "$tmp/ours.efi" ::/EFI/Linux/ &&
		xorriso -as mkisofs -quiet -r -J -V OURS -eltorito-alt-boot -e efi.img -no-emul-boot -o "$tmp/uefi.iso" "$tmp/uefi"
}
check "a unified kernel image" unified
check "is what it seems" says "cmdline *console=ttyS0 quiet" vmplat image info "$tmp/ours.efi"
check "a disc with it in its boot image" uefi_disc
check "its only entry" says "^1\* ours.efi" vmplat iso boot --entries "$tmp/uefi.iso"
truncate -s 1M "$tmp/disk"
printf '%s\n' "iso = uefi.iso" "append = more" "console = guest" "name = d" "[disk]" "file = disk" >"$tmp/d.conf"
sum=$(md5sum <"$tmp/uefi.iso")
check "it boots" timeout 280 vmplat run "$tmp/d.conf"
check "has the disc behind its disks, read-only" grep -a "DISC a disc ro=1 console=ttyS0 quiet more" "$tmp/guest"
check "cannot write to it" grep -a REFUSED "$tmp/guest"
check "and has not" test "$sum" = "$(md5sum <"$tmp/uefi.iso")"
done_testing
