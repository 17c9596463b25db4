// SPDX-License-Identifier: GPL-2.0-only
/* The host's half; linux/vfio.h and Documentation/driver-api/vfio.rst of Linux have the interface. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include <linux/pci_regs.h>

#include "vfio_priv.h"
#include "vm_priv.h"

#define SLOTS_PER_DEV	(PCI_BARS * VFIO_PIECES_MAX)
#define SLOT_FIRST	64u	/* of KVM; those below are RAM's */
#define PAGE		4096u

struct vfio_group {
	struct vfio_group *next;
	unsigned int id;
	int fd;
	unsigned int users;
};

/* One for a VM, while it has a device. */
struct vfio {
	int fd;				/* the container */
	struct vfio_group *groups;
	int kvm_fd;			/* where KVM is told of groups; -1: it does not ask */
	bool used[VM_HOSTDEVS_MAX];	/* numbers of devices, for KVM's slots */
};

/* ---- memory -------------------------------------------------------------------- */

/* Which addresses the IOMMU takes; false: it does not say. */
static bool iova_ranges(int fd, struct vfio_iommu_type1_info *info, size_t room)
{
	memset(info, 0, sizeof(*info));
	info->argsz = (uint32_t)room;
	return !ioctl(fd, VFIO_IOMMU_GET_INFO, info) && info->argsz <= room &&
	       info->flags & VFIO_IOMMU_INFO_CAPS;
}

static const struct vfio_iommu_type1_info_cap_iova_range *find_ranges(const uint8_t *buf, size_t room)
{
	const struct vfio_iommu_type1_info *info = (const void *)buf;

	for (uint32_t at = info->cap_offset; at && at + sizeof(struct vfio_info_cap_header) <= room;) {
		const struct vfio_info_cap_header *h = (const void *)(buf + at);

		if (h->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			return (const void *)h;
		at = h->next;
	}
	return NULL;
}

/* A place where the IOMMU maps nothing in the guest's memory: DMA there would be lost. */
static int check_ranges(struct vm *vm, struct vfio *v, uint64_t gpa, uint64_t bytes)
{
	uint64_t buf[512];
	const struct vfio_iommu_type1_info_cap_iova_range *r;

	if (!iova_ranges(v->fd, (void *)buf, sizeof(buf)))
		return 0;
	r = find_ranges((const uint8_t *)buf, sizeof(buf));
	for (uint32_t i = 0; r && i < r->nr_iovas; i++)
		if (r->iova_ranges[i].start <= gpa && gpa + bytes - 1 <= r->iova_ranges[i].end)
			return 0;
	return r ? vm_error(vm, -ERANGE, "the IOMMU cannot map the guest's memory at 0x%llx to 0x%llx: the host reserves addresses there (`vmplat iommu show`), or they are more than it has; give the guest less memory",
			    (unsigned long long)gpa, (unsigned long long)(gpa + bytes - 1)) : 0;
}

static int map_failed(struct vm *vm, uint64_t bytes, int err)
{
	unsigned long long mib = (unsigned long long)bytes >> 20;

	switch (err) {
	case ENOMEM:
		return vm_error(vm, -err, "%llu MiB of guest memory cannot be locked for devices: memory is short, or the limit is (`ulimit -l`; root has none)",
				mib);
	case EFAULT:
	case EOPNOTSUPP:
		return vm_error(vm, -err, "guest memory cannot be pinned for devices: it is freezable; start the VM with --pinnable");
	default:
		return vm_error(vm, -err, "VFIO does not map %llu MiB of guest memory: %s", mib, strerror(err));
	}
}

static int map(struct vm *vm, struct vfio *v, uint64_t gpa, uint64_t bytes, void *at)
{
	struct vfio_iommu_type1_dma_map m = {
		.argsz = sizeof(m), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)at, .iova = gpa, .size = bytes,
	};
	int ret = bytes ? check_ranges(vm, v, gpa, bytes) : 0;

	if (ret || !bytes)
		return ret;
	return ioctl(v->fd, VFIO_IOMMU_MAP_DMA, &m) ? map_failed(vm, bytes, errno) : 0;
}

static int map_all(struct vm *vm, struct vfio *v)
{
	int ret = map(vm, v, 0, vm->low_bytes, vm->ram);

	if (!ret)
		ret = map(vm, v, VM_HIGHMEM_BASE, vm->high_bytes, vm->ram + vm->low_bytes);
	for (unsigned int i = 0; i < VM_DIMMS_MAX && !ret; i++)
		ret = map(vm, v, vm->dimms[i].gpa, vm->dimms[i].bytes, vm->dimms[i].ram);
	return ret;
}

int vfio_memory(struct vm *vm, uint64_t gpa, uint64_t bytes, void *at)
{
	return vm->vfio ? map(vm, vm->vfio, gpa, bytes, at) : 0;
}

void vfio_no_memory(struct vm *vm, uint64_t gpa, uint64_t bytes)
{
	struct vfio_iommu_type1_dma_unmap u = { .argsz = sizeof(u), .iova = gpa, .size = bytes };

	if (vm->vfio)
		ioctl(vm->vfio->fd, VFIO_IOMMU_UNMAP_DMA, &u);	/* what is not mapped is no error */
}

/* ---- container and groups --------------------------------------------------------- */

/*
 * KVM honours the guest's memory types and cache flushes where DMA of a group does not
 * snoop caches. One without that device has nothing to honour.
 */
static int kvm_device(struct vm *vm)
{
	struct kvm_create_device d = { .type = KVM_DEV_TYPE_VFIO };

	return ioctl(vm->fd, KVM_CREATE_DEVICE, &d) ? -1 : (int)d.fd;
}

static int tell_kvm(struct vm *vm, const struct vfio *v, const struct vfio_group *g, uint64_t what)
{
	int32_t fd = g->fd;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_GROUP, .attr = what, .addr = (uintptr_t)&fd,
	};

	if (v->kvm_fd < 0 || !ioctl(v->kvm_fd, KVM_SET_DEVICE_ATTR, &attr))
		return 0;
	return vm_error(vm, -errno, "KVM does not take IOMMU group %u: %s", g->id, strerror(errno));
}

static int container_new(struct vm *vm, struct vfio **out)
{
	struct vfio *v = calloc(1, sizeof(*v));

	if (!v)
		return vm_error(vm, -ENOMEM, "out of memory");
	v->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (v->fd < 0) {
		int ret = vm_error(vm, -errno, "/dev/vfio/vfio: %s; is the module vfio_iommu_type1 loaded?",
				   strerror(errno));

		free(v);
		return ret;
	}
	v->kvm_fd = kvm_device(vm);
	*out = v;
	return 0;
}

/* The first group decides what the container is; then there is something to map into. */
static int container_set(struct vm *vm, struct vfio *v)
{
	if (!ioctl(v->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return map_all(vm, v);
	if (errno == EPERM)
		return vm_error(vm, -EPERM, "VFIO refuses: this host does not remap interrupts, so that a device could raise any of the host's; vfio_iommu_type1 loaded with allow_unsafe_interrupts=1 accepts that");
	return vm_error(vm, -errno, "VFIO sets up no IOMMU for the VM: %s", strerror(errno));
}

/* The kernel forgets what was mapped with the last group. */
static void container_free(struct vm *vm)
{
	if (!vm->vfio || vm->vfio->groups)
		return;
	if (vm->vfio->kvm_fd >= 0)
		close(vm->vfio->kvm_fd);
	close(vm->vfio->fd);
	free(vm->vfio);
	vm->vfio = NULL;
}

static int open_group(struct vm *vm, const struct vfio_dev *dev, unsigned int id)
{
	struct vfio_group_status st = { .argsz = sizeof(st) };
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/vfio/%u", id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vm_error(vm, -errno, errno == EBUSY ? "%s: somebody has its IOMMU group open (%s): %s"
				: "%s: %s: %s; `vmplat claim add` makes that file, and its owner may use it",
				dev->address, path, strerror(errno));
	if (!ioctl(fd, VFIO_GROUP_GET_STATUS, &st) && st.flags & VFIO_GROUP_FLAGS_VIABLE)
		return fd;
	close(fd);
	return vm_error(vm, -EBUSY, "%s: VFIO says that its IOMMU group %u is not viable: another device of it is the host's; `vmplat claim add` takes all of it",
			dev->address, id);
}

static int group_new(struct vm *vm, struct vfio *v, const struct vfio_dev *dev, unsigned int id,
		     struct vfio_group **out)
{
	struct vfio_group *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return vm_error(vm, -ENOMEM, "out of memory");
	g->id = id;
	g->fd = open_group(vm, dev, id);
	ret = g->fd < 0 ? g->fd : 0;
	if (!ret && ioctl(g->fd, VFIO_GROUP_SET_CONTAINER, &v->fd))
		ret = vm_error(vm, -errno, "%s: VFIO does not take its group %u: %s%s", dev->address,
			       id, strerror(errno),
			       errno == EPERM ? "; are interrupts remapped? `vmplat iommu show`" : "");
	if (!ret && !v->groups)
		ret = container_set(vm, v);
	if (!ret)
		ret = tell_kvm(vm, v, g, KVM_DEV_VFIO_GROUP_ADD);
	if (ret) {
		if (g->fd >= 0)
			close(g->fd);
		free(g);
		return ret;
	}
	g->next = v->groups;
	v->groups = g;
	*out = g;
	return 0;
}

static int group_get(struct vm *vm, struct vfio_dev *dev, unsigned int id)
{
	struct vfio_group *g = NULL;
	int ret = 0;

	if (!vm->vfio)
		ret = container_new(vm, &vm->vfio);
	for (g = ret ? NULL : vm->vfio->groups; g && g->id != id; g = g->next)
		;
	if (!ret && !g)
		ret = group_new(vm, vm->vfio, dev, id, &g);
	if (ret) {
		container_free(vm);
		return ret;
	}
	g->users++;
	dev->group = g;
	return 0;
}

static void group_put(struct vm *vm, struct vfio_group *g)
{
	struct vfio_group **p = &vm->vfio->groups;

	if (--g->users)
		return;
	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	tell_kvm(vm, vm->vfio, g, KVM_DEV_VFIO_GROUP_DEL);
	close(g->fd);
	free(g);
	container_free(vm);
}

/* ---- configuration space, reset ---------------------------------------------------- */

uint32_t vfio_cfg_read(struct vfio_dev *dev, unsigned int off, unsigned int len)
{
	uint32_t val = UINT32_MAX;

	if (pread(dev->fd, &val, len, (off_t)(dev->cfg_offset + off)) != (ssize_t)len)
		return UINT32_MAX;
	return val;
}

/* What the kernel refuses is lost, as it would be on the wire. */
void vfio_cfg_write(struct vfio_dev *dev, unsigned int off, unsigned int len, uint32_t val)
{
	if (pwrite(dev->fd, &val, len, (off_t)(dev->cfg_offset + off)) < 0)
		return;
}

int vfio_reset(struct vfio_dev *dev)
{
	if (!dev->resets)
		return -EOPNOTSUPP;
	return ioctl(dev->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

/* ---- interrupts ---------------------------------------------------------------------- */

unsigned int vfio_irq_nr(struct vfio_dev *dev, unsigned int index, bool *grows)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) || !(info.flags & VFIO_IRQ_INFO_EVENTFD))
		return 0;
	if (grows)
		*grows = !(info.flags & VFIO_IRQ_INFO_NORESIZE);
	return info.count;
}

int vfio_irq_set(struct vfio_dev *dev, unsigned int index, uint32_t action, unsigned int start,
		 const int *fds, unsigned int nr)
{
	size_t bytes = sizeof(struct vfio_irq_set) + nr * sizeof(*fds);
	struct vfio_irq_set *set = calloc(1, bytes);
	int ret;

	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)bytes, .flags = VFIO_IRQ_SET_DATA_EVENTFD | action,
		.index = index, .start = start, .count = nr,
	};
	memcpy(set->data, fds, nr * sizeof(*fds));
	ret = ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
	if (ret < 0)
		ret = -errno;
	free(set);
	return ret;
}

void vfio_irq_disable(struct vfio_dev *dev, unsigned int index)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set), .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
	};

	ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set);	/* what is off stays off */
}

/* ---- regions --------------------------------------------------------------------------- */

static struct vfio_region_info *region_info(struct vfio_dev *dev, unsigned int index)
{
	struct vfio_region_info first = { .argsz = sizeof(first), .index = index }, *all;

	if (ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &first))
		return NULL;
	all = calloc(1, first.argsz);
	if (!all)
		return NULL;
	all->argsz = first.argsz;
	all->index = index;
	if (!ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, all))
		return all;
	free(all);
	return NULL;
}

static const struct vfio_info_cap_header *region_cap(const struct vfio_region_info *r, uint16_t id)
{
	uint32_t at = r->flags & VFIO_REGION_INFO_FLAG_CAPS ? r->cap_offset : 0;

	while (at && at + sizeof(struct vfio_info_cap_header) <= r->argsz) {
		const struct vfio_info_cap_header *h = (const void *)((const uint8_t *)r + at);

		if (h->id == id)
			return h;
		at = h->next;
	}
	return NULL;
}

/* what VFIO lets be mapped of it */
static unsigned int mappable(const struct vfio_region_info *r, struct vfio_piece parts[VFIO_PIECES_MAX])
{
	const struct vfio_region_info_cap_sparse_mmap *s =
		(const void *)region_cap(r, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	unsigned int nr = 0;

	if (!(r->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	if (!s) {
		parts[0] = (struct vfio_piece){ 0, r->size };
		return 1;
	}
	for (; nr < s->nr_areas && nr < VFIO_PIECES_MAX; nr++)
		parts[nr] = (struct vfio_piece){
			s->areas[nr].offset, s->areas[nr].offset + s->areas[nr].size,
		};
	return nr;
}

/* What does not map is trapped. */
static void map_pieces(struct vfio_bar *bar)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < bar->nr_pieces; i++) {
		struct vfio_piece p = bar->pieces[i];
		void *at = mmap(NULL, p.to - p.from, PROT_READ | PROT_WRITE, MAP_SHARED, bar->dev->fd,
				(off_t)(bar->offset + p.from));

		if (at == MAP_FAILED)
			continue;
		bar->pieces[nr] = p;
		bar->maps[nr++] = at;
	}
	bar->nr_pieces = nr;
}

static uint64_t round_pow2(uint64_t v)
{
	uint64_t p = 16;

	while (p < v)
		p <<= 1;
	return p;
}

static int init_bar(struct vfio_dev *dev, unsigned int n, const uint8_t *host)
{
	struct vfio_region_info *r = region_info(dev, VFIO_PCI_BAR0_REGION_INDEX + n);
	struct vfio_piece parts[VFIO_PIECES_MAX];
	struct vfio_bar *bar = &dev->bars[n];

	if (!r)
		return vm_error(dev->vm, -errno, "%s: VFIO does not tell of its BAR %u: %s", dev->address,
				n, strerror(errno));
	bar->dev = dev;
	bar->index = n;
	if (r->size) {
		bar->kind = vfio_cfg_bar(host, n, &bar->prefetch);
		bar->bytes = r->size;
		bar->size = bar->kind == PCI_BAR_IO ? r->size : round_pow2(r->size);
		bar->offset = r->offset;
		bar->nr_pieces = vfio_cfg_pieces(&dev->cfg, n, parts, mappable(r, parts), bar->pieces);
		map_pieces(bar);
	}
	free(r);
	return 0;
}

static int init_regions(struct vfio_dev *dev, uint8_t host[PCI_CFG_BYTES])
{
	struct vfio_region_info *r = region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX);
	ssize_t n;

	if (!r)
		return vm_error(dev->vm, -errno, "%s: VFIO shows no configuration space: %s", dev->address,
				strerror(errno));
	dev->cfg_offset = r->offset;
	free(r);
	n = pread(dev->fd, host, PCI_CFG_BYTES, (off_t)dev->cfg_offset);
	return n == PCI_CFG_BYTES ? 0 : vm_error(dev->vm, -EIO, "%s: its configuration space cannot be read",
						 dev->address);
}

/* ---- the function -------------------------------------------------------------------- */

/* Addresses come when it is plugged. */
static int build_function(struct vfio_dev *dev, const uint8_t *host)
{
	const char *why = vfio_cfg_build(&dev->cfg, &dev->pci, host);
	int ret = why ? vm_error(dev->vm, -EOPNOTSUPP, "%s cannot be given to a guest: %s", dev->address, why)
		      : 0;

	for (unsigned int n = 0; n < PCI_BARS && !ret; n++) {
		if (n && dev->bars[n - 1].kind == PCI_BAR_MEM64)
			continue;
		ret = init_bar(dev, n, host);
	}
	return ret;
}

/* ---- what the host says about it ------------------------------------------------------ */

static void *watch(void *arg)
{
	struct vfio_dev *dev = arg;
	struct pollfd p[] = {
		{ .fd = dev->stop_fd, .events = POLLIN },
		{ .fd = dev->request_fd, .events = POLLIN },
		{ .fd = dev->error_fd, .events = POLLIN },
	};
	eventfd_t n;

	for (;;) {
		if (poll(p, 3, -1) < 0)
			continue;
		if (p[0].revents)
			return NULL;
		if (p[1].revents && !eventfd_read(dev->request_fd, &n)) {
			atomic_store(&dev->wanted, true);
			vm_device_changed(dev->vm);
		}
		if (p[2].revents && !eventfd_read(dev->error_fd, &n))
			vm_notice(dev->vm, "%s (%s) has reported an error that it cannot correct; what the guest got from it may be wrong",
				  dev->id, dev->address);
	}
}

/* What a kernel does not tell is not waited for. */
static int start_watch(struct vfio_dev *dev)
{
	const struct vmplat_thread_options o = {
		.name = "vfio", .flags = VMPLAT_THREAD_F_NO_SIGNALS,
	};
	int ret;

	dev->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->stop_fd < 0 || dev->request_fd < 0 || dev->error_fd < 0)
		return vm_error(dev->vm, -errno, "no eventfd: %s", strerror(errno));
	if (vfio_irq_nr(dev, VFIO_PCI_REQ_IRQ_INDEX, NULL))
		vfio_irq_set(dev, VFIO_PCI_REQ_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, &dev->request_fd, 1);
	if (vfio_irq_nr(dev, VFIO_PCI_ERR_IRQ_INDEX, NULL))
		vfio_irq_set(dev, VFIO_PCI_ERR_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, &dev->error_fd, 1);
	ret = vmplat_thread_start(&dev->watcher, &o, watch, dev);
	return ret ? vm_error(dev->vm, ret, "a thread for %s %s", dev->address, vmplat_last_error()) : 0;
}

static void stop_watch(struct vfio_dev *dev)
{
	if (dev->watcher) {
		eventfd_write(dev->stop_fd, 1);
		vmplat_thread_join(dev->watcher);
	}
	for (int *fd = (int[]){ dev->stop_fd, dev->request_fd, dev->error_fd, -2 }; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
}

bool vfio_wanted(struct vfio_dev *dev)
{
	return atomic_exchange(&dev->wanted, false);
}

/* No class is all ones, and no kernel virtualises it. */
bool vfio_gone(struct vfio_dev *dev)
{
	return vfio_cfg_read(dev, PCI_CLASS_REVISION, 4) == UINT32_MAX;
}

/* ---- opening and closing ------------------------------------------------------------- */

static int open_device(struct vfio_dev *dev)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	dev->fd = ioctl(dev->group->fd, VFIO_GROUP_GET_DEVICE_FD, dev->address);
	if (dev->fd < 0)
		return vm_error(dev->vm, -errno, "%s: its driver does not open it: %s%s", dev->address,
				strerror(errno), errno == EBUSY ? "; it is held, perhaps being taken back" :
				errno == EAGAIN ? "; somebody is resetting it just now" : "");
	if (ioctl(dev->fd, VFIO_DEVICE_GET_INFO, &info) || !(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return vm_error(dev->vm, -ENODEV, "%s: VFIO does not call it a PCI device", dev->address);
	dev->resets = info.flags & VFIO_DEVICE_FLAGS_RESET;
	if (!dev->resets)
		vm_notice(dev->vm, "%s (%s) cannot be reset by itself: whoever has it next, this guest after a reset too, finds it as it was left",
			  dev->id, dev->address);
	return 0;
}

static int take_number(struct vfio_dev *dev)
{
	bool *used = dev->vm->vfio->used;

	for (unsigned int i = 0; i < VM_HOSTDEVS_MAX; i++) {
		if (used[i])
			continue;
		used[i] = true;
		dev->slot_base = SLOT_FIRST + i * SLOTS_PER_DEV;
		return 0;
	}
	return vm_error(dev->vm, -ENOSPC, "a VM has at most %d devices of the host", VM_HOSTDEVS_MAX);
}

static int set_up(struct vfio_dev *dev)
{
	uint8_t host[PCI_CFG_BYTES];
	struct pci_ids ids;
	int ret = take_number(dev);

	if (!ret)
		ret = open_device(dev);
	if (!ret)
		ret = init_regions(dev, host);
	if (ret)
		return ret;
	ids = vfio_cfg_ids(host);
	vfio_function_init(dev, &ids);
	ret = build_function(dev, host);
	if (!ret)
		ret = vfio_irqs_init(dev);
	return ret ? ret : start_watch(dev);
}

int vfio_open(struct vm *vm, const struct vm_hostdev *d, struct vfio_dev **out)
{
	struct vfio_dev *dev = calloc(1, sizeof(*dev));
	char why[400];
	unsigned int group;
	int ret;

	*out = NULL;
	if (!dev)
		return vm_error(vm, -ENOMEM, "out of memory");
	dev->vm = vm;
	dev->fd = dev->stop_fd = dev->request_fd = dev->error_fd = -1;
	dev->irqs.intx_fd = dev->irqs.resample_fd = -1;
	snprintf(dev->id, sizeof(dev->id), "%s", *d->id ? d->id : "a device");
	ret = vfio_host_check(d, dev->address, &group, why, sizeof(why));
	if (ret)
		vm_error(vm, ret, "%s", why);
	if (!ret)
		ret = group_get(vm, dev, group);
	if (!ret)
		ret = set_up(dev);
	if (ret)
		vfio_close(dev);
	else
		*out = dev;
	return ret;
}

static void unmap_bars(struct vfio_dev *dev)
{
	for (unsigned int n = 0; n < PCI_BARS; n++)
		for (unsigned int i = 0; i < dev->bars[n].nr_pieces; i++)
			munmap(dev->bars[n].maps[i], dev->bars[n].pieces[i].to - dev->bars[n].pieces[i].from);
}

void vfio_close(struct vfio_dev *dev)
{
	struct vm *vm;

	if (!dev)
		return;
	vm = dev->vm;
	stop_watch(dev);
	vfio_irqs_exit(dev);
	unmap_bars(dev);
	if (dev->fd >= 0)
		close(dev->fd);
	if (dev->slot_base)
		vm->vfio->used[(dev->slot_base - SLOT_FIRST) / SLOTS_PER_DEV] = false;
	if (dev->group)
		group_put(vm, dev->group);
	free(dev);
}

bool vfio_resets(const struct vfio_dev *dev)
{
	return dev->resets;
}

const char *vfio_address(const struct vfio_dev *dev)
{
	return dev->address;
}
