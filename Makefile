# SPDX-License-Identifier: GPL-2.0
# "make help" lists what can be made.

KDIR ?= /lib/modules/$(shell uname -r)/build
prefix ?= /usr/local
sbindir ?= $(prefix)/sbin
udevdir ?= /lib/udev/rules.d
modloaddir ?= /lib/modules-load.d
version := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
dkmsdir = $(DESTDIR)/usr/src/vmplat-$(version)

out := $(CURDIR)/build
# the kernel says itself which release a KDIR is; empty when KDIR cannot build modules
release = $(shell test -e $(KDIR)/Makefile && sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h 2>/dev/null)
K = $(out)/kmod/$(release)$(KSUFFIX)

# for checks: make module W=1 C=1 CF=-Wsparse-error KCFLAGS=-Werror LLVM=1 KSUFFIX=-clang
kbuild_vars := $(foreach v,W C CF KCFLAGS LLVM CC,$(if $(filter command line environment,$(origin $(v))),$(v)='$($(v))'))

.PHONY: all module modules-all user install install-user install-module uninstall dkms demo check bench setup clean help FORCE
all: $(if $(release),module) user
	$(if $(release),,@echo "No kernel headers in $(KDIR): the module was left out (set KDIR=, or make modules-all)")

# Kbuild leaves its products beside the sources: it gets a copy, one for each kernel.
module:
	$(if $(release),,$(error no kernel headers in $(KDIR); set KDIR=))
	@mkdir -p $(K)
	@rsync -rt --delete --include='*.[chS]' --include='*/' --exclude='*' kmod uapi $(K)/
	@cp -u Kbuild $(K)/Kbuild
	$(MAKE) -C $(KDIR) M=$(K) $(kbuild_vars) modules

modules-all:
	@for k in 6.1 6.12 debug; do selftests/host/build-module $$k || exit; done

user:
	$(MAKE) -C user

install: install-user install-module

install-user: user
	$(MAKE) -C user install DESTDIR=$(DESTDIR) prefix=$(prefix)
	install -D -m 644 packaging/60-vmplat.rules $(DESTDIR)$(udevdir)/60-vmplat.rules
	install -D -m 644 packaging/vmplat.modules-load $(DESTDIR)$(modloaddir)/vmplat.conf

install-module:
	$(if $(release),$(MAKE) module,@echo "No kernel headers in $(KDIR): module not installed")
	$(if $(release),install -D -m 644 -t $(DESTDIR)/lib/modules/$(release)/updates $(K)/*.ko)
	$(if $(release),$(if $(DESTDIR),,depmod -a $(release)))

uninstall:
	$(MAKE) -C user uninstall DESTDIR=$(DESTDIR) prefix=$(prefix)
	rm -f $(DESTDIR)$(udevdir)/60-vmplat.rules $(DESTDIR)$(modloaddir)/vmplat.conf
	rm -f $(DESTDIR)/lib/modules/*/updates/vmplat.ko $(DESTDIR)/lib/modules/*/updates/vmplat_vfio.ko
	$(if $(DESTDIR),,depmod -a)

# The sources where DKMS looks for them, and, on a running system, the module built and installed by it
dkms:
	mkdir -p $(dkmsdir)
	cp -r Kbuild Makefile dkms.conf kmod uapi $(dkmsdir)/
	$(if $(DESTDIR),,dkms install --force vmplat/$(version))

demo:
	selftests/demo/run

check:
	selftests/host/setup
	selftests/check $(T)

bench:
	bench/run $(B)

setup:
	selftests/host/setup

clean:
	rm -rf build

help:
	@echo "all          module (when there are kernel headers) and user"
	@echo "module       vmplat.ko and vmplat_vfio.ko for KDIR=$(KDIR), into build/kmod/RELEASE"
	@echo "modules-all  both for each kernel of the test host"
	@echo "user         libvmplat and vmplat, into build/user"
	@echo "install      all of it below prefix=$(prefix); uninstall takes it away; DESTDIR= is honoured"
	@echo "dkms         register the module with DKMS"
	@echo "setup        install the packages that building and testing need (Debian)"
	@echo "demo         a guest is frozen while it runs, stored, killed, and comes back"
	@echo "check        every test; T='PATTERN' or T='--kernel 6.12 PATTERN' for some"
	@echo "bench        side by side with the peers; B=NAME for one"
