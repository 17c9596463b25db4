// SPDX-License-Identifier: GPL-2.0-only
#include "config.h"

#include <vmplat_error.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "image/why.h"

#define PCI_SLOTS_END	31u	/* the last slot is the entropy device's */
#define NAME_CHARS	40
#define IFNAME_CHARS	15

static const char *const unpack_names[] = {
	[VM_UNPACK_HOST] = "host",
	[VM_UNPACK_HOST_NOCACHE] = "host-nocache",
	[VM_UNPACK_GUEST] = "guest",
};

static const char *const arch_names[] = {
	[VM_ARCH_X86_64] = "x86_64", [VM_ARCH_AARCH64] = "aarch64", [VM_ARCH_RISCV64] = "riscv64",
};

static const char *const accel_names[] = {
	[VM_ACCEL_AUTO] = "auto", [VM_ACCEL_KVM] = "kvm", [VM_ACCEL_TCG] = "tcg",
};

#define NR(names)	(sizeof(names) / sizeof(names[0]))

/* -1: none of them */
static int find_word(const char *const *names, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(name, names[i]))
			return (int)i;
	return -1;
}

const char *vm_unpack_name(enum vm_unpack unpack)
{
	return unpack_names[unpack];
}

bool vm_unpack_parse(enum vm_unpack *unpack, const char *name)
{
	int i = find_word(unpack_names, NR(unpack_names), name);

	if (i >= 0)
		*unpack = (enum vm_unpack)i;
	return i >= 0;
}

const char *vm_arch_name(enum vm_arch arch)
{
	return arch_names[arch];
}

bool vm_arch_parse(enum vm_arch *arch, const char *name)
{
	int i = find_word(arch_names, NR(arch_names), name);

	if (i >= 0)
		*arch = (enum vm_arch)i;
	return i >= 0;
}

const char *vm_accel_name(enum vm_accel accel)
{
	return accel_names[accel];
}

bool vm_accel_parse(enum vm_accel *accel, const char *name)
{
	int i = find_word(accel_names, NR(accel_names), name);

	if (i >= 0)
		*accel = (enum vm_accel)i;
	return i >= 0;
}

bool vm_config_uses_qemu(const struct vm_config *cfg)
{
	return cfg->firmware || cfg->arch != VM_ARCH_X86_64;
}

void vm_config_free(struct vm_config *cfg)
{
	free(cfg->name);
	free(cfg->iso);
	free(cfg->kernel);
	for (unsigned int i = 0; i < cfg->nr_initrds; i++)
		free(cfg->initrds[i]);
	free(cfg->cmdline);
	free(cfg->firmware);
	free(cfg->efi_vars);
	free(cfg->affinity);
	for (unsigned int i = 0; i < cfg->nr_disks; i++)
		free(cfg->disks[i].path);
	for (unsigned int i = 0; i < cfg->nr_nets; i++)
		free(cfg->nets[i].where);
	for (unsigned int i = 0; i < cfg->nr_hostdevs; i++)
		vm_hostdev_free(&cfg->hostdevs[i]);
	memset(cfg, 0, sizeof(*cfg));
}

/* ---- devices by id ------------------------------------------------------- */

struct vm_disk *vm_config_disk(struct vm_config *cfg, const char *id)
{
	for (unsigned int i = 0; i < cfg->nr_disks; i++)
		if (!strcmp(cfg->disks[i].id, id))
			return &cfg->disks[i];
	return NULL;
}

struct vm_net *vm_config_net(struct vm_config *cfg, const char *id)
{
	for (unsigned int i = 0; i < cfg->nr_nets; i++)
		if (!strcmp(cfg->nets[i].id, id))
			return &cfg->nets[i];
	return NULL;
}

struct vm_hostdev *vm_config_hostdev(struct vm_config *cfg, const char *id)
{
	for (unsigned int i = 0; i < cfg->nr_hostdevs; i++)
		if (!strcmp(cfg->hostdevs[i].id, id))
			return &cfg->hostdevs[i];
	return NULL;
}

struct vm_dimm *vm_config_dimm(struct vm_config *cfg, const char *id)
{
	for (unsigned int i = 0; i < cfg->nr_dimms; i++)
		if (!strcmp(cfg->dimms[i].id, id))
			return &cfg->dimms[i];
	return NULL;
}

static bool id_taken(struct vm_config *cfg, const char *id)
{
	return vm_config_disk(cfg, id) || vm_config_net(cfg, id) || vm_config_hostdev(cfg, id) ||
	       vm_config_dimm(cfg, id);
}

/* @id as it is, or the first free of its kind */
static const char *give_id(struct vm_config *cfg, const char *kind, char id[VM_ID_MAX + 1])
{
	size_t n = strlen(id);

	for (unsigned int i = 0; !n && (!*id || id_taken(cfg, id)); i++)
		snprintf(id, VM_ID_MAX + 1, "%s%u", kind, i);
	if (n && (id[0] < 'a' || id[0] > 'z' ||
		  strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != n))
		return sentence("'%s' is no id of a device: it is a lower-case letter, then letters, digits, '-'",
				id);
	if (!strcmp(id, "memory"))
		return "no device can be called 'memory': that is the memory from boot";
	if (id_taken(cfg, id))
		return sentence("there is a device '%s' already", id);
	return NULL;
}

static bool slot_taken(const struct vm_config *cfg, unsigned int slot)
{
	for (unsigned int i = 0; i < cfg->nr_disks; i++)
		if (cfg->disks[i].slot == slot)
			return true;
	for (unsigned int i = 0; i < cfg->nr_nets; i++)
		if (cfg->nets[i].slot == slot)
			return true;
	for (unsigned int i = 0; i < cfg->nr_hostdevs; i++)
		if (cfg->hostdevs[i].slot == slot)
			return true;
	return false;
}

static const char *check_slot(const struct vm_config *cfg, unsigned int slot)
{
	if (slot >= PCI_SLOTS_END)
		return sentence("there is no PCI slot %u for a device: 1 to %u", slot, PCI_SLOTS_END - 1);
	if (slot && slot_taken(cfg, slot))
		return sentence("PCI slot %u is taken", slot);
	return NULL;
}

const char *vm_config_add_disk(struct vm_config *cfg, const struct vm_disk *from)
{
	struct vm_disk d = *from;
	const char *why = give_id(cfg, "disk", d.id);

	if (!why)
		why = check_slot(cfg, d.slot);
	if (why)
		return why;
	if (cfg->nr_disks == VM_DISKS_MAX)
		return sentence("a VM has at most %d disks", VM_DISKS_MAX);
	d.path = strdup(from->path);
	if (!d.path)
		return "out of memory";
	cfg->disks[cfg->nr_disks++] = d;
	return NULL;
}

const char *vm_config_add_initrd(struct vm_config *cfg, const char *path)
{
	char *copy;

	if (cfg->nr_initrds == VM_INITRDS_MAX)
		return sentence("a VM has at most %d initrds", VM_INITRDS_MAX);
	copy = strdup(path);
	if (!copy)
		return "out of memory";
	cfg->initrds[cfg->nr_initrds++] = copy;
	return NULL;
}

/* locally administered, unicast */
static void give_mac(uint8_t mac[6])
{
	static const uint8_t zero[6];

	if (memcmp(mac, zero, 6))
		return;
	if (getrandom(mac, 6, 0) != 6)
		memcpy(mac, "\x02vmpl", 6);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
}

const char *vm_config_add_net(struct vm_config *cfg, const struct vm_net *from)
{
	struct vm_net n = *from;
	const char *why = give_id(cfg, "net", n.id);

	if (!why)
		why = check_slot(cfg, n.slot);
	if (why)
		return why;
	if (cfg->nr_nets == VM_NETS_MAX)
		return sentence("a VM has at most %d network devices", VM_NETS_MAX);
	if (n.mac[0] & 1)
		return "a MAC whose first byte is odd is a multicast address";
	give_mac(n.mac);
	if (from->where) {
		n.where = strdup(from->where);
		if (!n.where)
			return "out of memory";
	}
	cfg->nets[cfg->nr_nets++] = n;
	return NULL;
}

const char *vm_config_add_hostdev(struct vm_config *cfg, const struct vm_hostdev *from)
{
	struct vm_hostdev d = *from;
	const char *why = give_id(cfg, "dev", d.id);

	if (!why)
		why = check_slot(cfg, d.slot);
	if (why)
		return why;
	if (cfg->nr_hostdevs == VM_HOSTDEVS_MAX)
		return sentence("a VM has at most %d devices of the host", VM_HOSTDEVS_MAX);
	for (unsigned int i = 0; i < cfg->nr_hostdevs; i++)
		if (!strcmp(cfg->hostdevs[i].host, from->host))
			return sentence("%s is there already, as '%s'", from->host,
					cfg->hostdevs[i].id);
	d.host = strdup(from->host);
	d.owner = from->owner ? strdup(from->owner) : NULL;
	if (!d.host || (from->owner && !d.owner)) {
		vm_hostdev_free(&d);
		return "out of memory";
	}
	cfg->hostdevs[cfg->nr_hostdevs++] = d;
	return NULL;
}

const char *vm_config_add_dimm(struct vm_config *cfg, const struct vm_dimm *from)
{
	struct vm_dimm d = *from;
	const char *why = give_id(cfg, "mem", d.id);
	uint64_t all = cfg->mem_bytes;

	if (why)
		return why;
	if (cfg->nr_dimms == VM_DIMMS_MAX || d.slot >= VM_DIMMS_MAX)
		return sentence("memory can be added %d times", VM_DIMMS_MAX);
	if (!d.bytes || d.bytes % VM_DIMM_ALIGN || d.gpa % VM_DIMM_ALIGN)
		return sentence("memory is added in multiples of %llu MiB", VM_DIMM_ALIGN >> 20);
	for (unsigned int i = 0; i < cfg->nr_dimms; i++) {
		all += cfg->dimms[i].bytes;
		if (cfg->dimms[i].slot == d.slot)
			return sentence("memory slot %u is taken", d.slot);
	}
	if (d.bytes > VM_MEM_MAX || all + d.bytes > VM_MEM_MAX)
		return sentence("the VM has %llu MiB; together it must not be more than %llu MiB",
				(unsigned long long)all >> 20, VM_MEM_MAX >> 20);
	cfg->dimms[cfg->nr_dimms++] = d;
	return NULL;
}

#define REMOVE_AT(array, nr, p) do {						\
	size_t at_ = (size_t)((p) - (array));					\
	memmove((p), (p) + 1, (--(nr) - at_) * sizeof((array)[0]));		\
} while (0)

void vm_config_remove(struct vm_config *cfg, const char *id)
{
	struct vm_disk *disk = vm_config_disk(cfg, id);
	struct vm_net *net = vm_config_net(cfg, id);
	struct vm_hostdev *hostdev = vm_config_hostdev(cfg, id);
	struct vm_dimm *dimm = vm_config_dimm(cfg, id);

	if (disk) {
		free(disk->path);
		REMOVE_AT(cfg->disks, cfg->nr_disks, disk);
	} else if (net) {
		free(net->where);
		REMOVE_AT(cfg->nets, cfg->nr_nets, net);
	} else if (hostdev) {
		vm_hostdev_free(hostdev);
		REMOVE_AT(cfg->hostdevs, cfg->nr_hostdevs, hostdev);
	} else if (dimm) {
		REMOVE_AT(cfg->dimms, cfg->nr_dimms, dimm);
	}
}

/* ---- devices as text ----------------------------------------------------- */

static const char *const net_kinds[] = {
	[VM_NET_NONE] = "none", [VM_NET_TAP] = "tap", [VM_NET_SOCKET] = "socket",
	[VM_NET_PASST] = "passt",
};

const char *vm_net_kind_name(enum vm_net_kind kind)
{
	return net_kinds[kind];
}

const char *vm_mac_text(const uint8_t mac[6], char text[VM_MAC_CHARS])
{
	snprintf(text, VM_MAC_CHARS, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return text;
}

static const char *parse_mac(uint8_t mac[6], const char *text)
{
	int end = 0;

	if (strlen(text) != VM_MAC_CHARS - 1 ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5], &end) != 6 || end != VM_MAC_CHARS - 1)
		return sentence("'%s' is no MAC address, such as 02:00:00:00:00:01", text);
	return NULL;
}

static const char *parse_id(char id[VM_ID_MAX + 1], const char *text)
{
	if (!*text || strlen(text) > VM_ID_MAX)
		return sentence("an id has 1 to %d characters", VM_ID_MAX);
	strcpy(id, text);
	return NULL;
}

static const char *check_where(const struct vm_net *n)
{
	if (n->kind == VM_NET_PASST)
		return n->where ? "passt takes no value" : NULL;
	if (!n->where || !*n->where)
		return n->kind == VM_NET_TAP ? "tap= needs the name of a tap device"
					     : "socket= needs the path of a socket";
	if (n->kind == VM_NET_TAP && (strlen(n->where) > IFNAME_CHARS || strpbrk(n->where, "/ %")))
		return sentence("'%s' is no name of a network device", n->where);
	if (n->kind == VM_NET_SOCKET && strlen(n->where) > 107)
		return sentence("'%s' is too long for a socket", n->where);
	return NULL;
}

static const char *net_to(struct vm_net *n, enum vm_net_kind kind, const char *where)
{
	if (n->kind != VM_NET_NONE)
		return "one network device has one of tap=, socket=, passt";
	n->kind = kind;
	n->where = where ? strdup(where) : NULL;
	return check_where(n);
}

static const char *net_tap(void *net, const char *value)
{
	return net_to(net, VM_NET_TAP, value);
}

static const char *net_socket(void *net, const char *value)
{
	return net_to(net, VM_NET_SOCKET, value);
}

static const char *net_passt(void *net, const char *value)
{
	return net_to(net, VM_NET_PASST, NULL);
}

static const char *net_mac(void *net, const char *value)
{
	return parse_mac(((struct vm_net *)net)->mac, value);
}

static const char *net_id(void *net, const char *value)
{
	return parse_id(((struct vm_net *)net)->id, value);
}

static const char *net_complete(void *net)
{
	return ((struct vm_net *)net)->kind == VM_NET_NONE ? "to what? tap=NAME, socket=PATH, or passt"
							   : NULL;
}

static const char *net_add(struct vm_config *cfg, void *net)
{
	return vm_config_add_net(cfg, net);
}

static void net_free(void *net)
{
	free(((struct vm_net *)net)->where);
	((struct vm_net *)net)->where = NULL;
}

static const struct vm_key net_keys[] = {
	{ "tap", "NAME", false, net_tap },
	{ "socket", "PATH", true, net_socket },
	{ "passt", NULL, false, net_passt },
	{ "mac", "ADDRESS", false, net_mac },
	{ "id", "ID", false, net_id },
	{ }
};

const struct vm_device_kind vm_net_kind = {
	"net", NULL, net_keys, sizeof(struct vm_net), net_complete, net_add, net_free,
};

static const char *disk_file(void *disk, const char *value)
{
	struct vm_disk *d = disk;

	free(d->path);
	d->path = strdup(value);
	return d->path ? NULL : "out of memory";
}

static const char *disk_ro(void *disk, const char *value)
{
	((struct vm_disk *)disk)->readonly = true;
	return NULL;
}

static const char *disk_id(void *disk, const char *value)
{
	return parse_id(((struct vm_disk *)disk)->id, value);
}

static const char *disk_complete(void *disk)
{
	struct vm_disk *d = disk;

	return d->path && *d->path ? NULL : "it names no file";
}

static const char *disk_add(struct vm_config *cfg, void *disk)
{
	return vm_config_add_disk(cfg, disk);
}

static void disk_free(void *disk)
{
	free(((struct vm_disk *)disk)->path);
	((struct vm_disk *)disk)->path = NULL;
}

static const struct vm_key disk_keys[] = {
	{ "file", "FILE", true, disk_file },
	{ "ro", NULL, false, disk_ro },
	{ "id", "ID", false, disk_id },
	{ }
};

const struct vm_device_kind vm_disk_kind = {
	"disk", "file", disk_keys, sizeof(struct vm_disk), disk_complete, disk_add, disk_free,
};

#define HOST_CHARS	128	/* a slot path below many bridges is long */

/* What it names is the host's to find; a number behind '#' is a VF's. */
static const char *check_host(const char *host)
{
	const char *vf = strchr(host, '#');

	if (!*host || *host == '#' || strlen(host) > HOST_CHARS || strpbrk(host, " \t,"))
		return sentence("'%.40s' is no PCI function, such as 0000:01:00.0", host);
	if (vf && (!vf[1] || strlen(vf + 1) > 5 || strspn(vf + 1, "0123456789") != strlen(vf + 1)))
		return sentence("'%.40s': behind '#' comes the number of a VF, from 0", host);
	return NULL;
}

static const char *hostdev_host(void *dev, const char *value)
{
	struct vm_hostdev *d = dev;

	free(d->host);
	d->host = strdup(value);
	return d->host ? check_host(value) : "out of memory";
}

static const char *hostdev_owner(void *dev, const char *value)
{
	struct vm_hostdev *d = dev;

	if (!*value)
		return "owner= needs a name";
	free(d->owner);
	d->owner = strdup(value);
	return d->owner ? NULL : "out of memory";
}

static const char *hostdev_id(void *dev, const char *value)
{
	return parse_id(((struct vm_hostdev *)dev)->id, value);
}

static const char *hostdev_complete(void *dev)
{
	return ((struct vm_hostdev *)dev)->host ? NULL : "which one? host = 0000:01:00.0 names a PCI function";
}

static const char *hostdev_add(struct vm_config *cfg, void *dev)
{
	return vm_config_add_hostdev(cfg, dev);
}

void vm_hostdev_free(struct vm_hostdev *d)
{
	free(d->host);
	free(d->owner);
	d->host = d->owner = NULL;
}

static void hostdev_free(void *dev)
{
	vm_hostdev_free(dev);
}

static const struct vm_key hostdev_keys[] = {
	{ "host", "ADDRESS", false, hostdev_host },
	{ "owner", "NAME", false, hostdev_owner },
	{ "id", "ID", false, hostdev_id },
	{ }
};

const struct vm_device_kind vm_hostdev_kind = {
	"device", "host", hostdev_keys, sizeof(struct vm_hostdev), hostdev_complete, hostdev_add,
	hostdev_free,
};

const struct vm_key *vm_key_find(const struct vm_device_kind *kind, const char *name, size_t len)
{
	for (const struct vm_key *k = kind->keys; k->name; k++)
		if (strlen(k->name) == len && !memcmp(k->name, name, len))
			return k;
	return NULL;
}

static const char *no_such_word(const struct vm_device_kind *kind, const char *word)
{
	char all[160] = "";
	size_t at = 0;

	for (const struct vm_key *k = kind->keys; k->name && at < sizeof(all); k++)
		at += (size_t)snprintf(all + at, sizeof(all) - at, "%s%s%s%s", at ? ", " : "", k->name,
				       k->arg ? "=" : "", k->arg ? k->arg : "");
	return sentence("'%s' is none of %s", word, all);
}

/* "KEY" or "KEY=VALUE", as the word of a flag */
static const char *one_word(const struct vm_device_kind *kind, char *word, vm_word_fn *fn, void *ctx)
{
	char *value = strchr(word, '=');
	const struct vm_key *k = vm_key_find(kind, word, strcspn(word, "="));

	if (!k)
		return no_such_word(kind, word);
	if (value && !k->arg)
		return sentence("%s takes no value", k->name);
	return fn(ctx, k, value ? value + 1 : "");
}

/* Words from the end, as long as they are any: a file's name may have commas. */
static const char *words_from_end(const struct vm_device_kind *kind, char *text, vm_word_fn *fn,
				  void *ctx)
{
	const char *why = NULL;
	char *comma;

	while (!why && (comma = strrchr(text, ',')) &&
	       vm_key_find(kind, comma + 1, strcspn(comma + 1, "="))) {
		*comma = 0;
		why = one_word(kind, comma + 1, fn, ctx);
	}
	return why ? why : fn(ctx, vm_key_find(kind, kind->head, strlen(kind->head)), text);
}

const char *vm_device_words(const struct vm_device_kind *kind, const char *text, vm_word_fn *fn,
			    void *ctx)
{
	char *copy = strdup(text), *rest = copy, *word;
	const char *why = NULL;

	if (!copy)
		return "out of memory";
	if (kind->head)
		why = words_from_end(kind, copy, fn, ctx);
	else
		while (*text && !why && (word = strsep(&rest, ",")))
			why = one_word(kind, word, fn, ctx);
	free(copy);
	return why;
}

static const char *set_word(void *dev, const struct vm_key *key, const char *value)
{
	return key->set(dev, value);
}

static const char *parse_device(const struct vm_device_kind *kind, void *dev, const char *text)
{
	const char *why;

	memset(dev, 0, kind->bytes);
	why = vm_device_words(kind, text, set_word, dev);
	if (!why)
		why = kind->complete(dev);
	if (why)
		kind->free(dev);
	return why;
}

const char *vm_net_parse(struct vm_net *net, const char *text)
{
	return parse_device(&vm_net_kind, net, text);
}

const char *vm_disk_parse(struct vm_disk *disk, const char *text)
{
	return parse_device(&vm_disk_kind, disk, text);
}

const char *vm_hostdev_parse(struct vm_hostdev *dev, const char *text)
{
	return parse_device(&vm_hostdev_kind, dev, text);
}

/* ---- where vCPUs may run --------------------------------------------------- */

const char *vm_affinity_parse(const char *text, unsigned int vcpu, struct vmplat_cpus *set,
			      unsigned int *nr)
{
	struct vmplat_cpus list;

	for (*nr = 0; ; text++) {
		const char *begin = text;

		if (vmplat_cpus_parse(&list, begin, &text))
			return sentence("%s", vmplat_last_error());
		if (*text && *text != ':')
			return sentence("'%s' is no list of CPUs, such as 0,2-5", begin);
		if (set && (!*nr || *nr == vcpu))
			*set = list;
		++*nr;
		if (!*text)
			return NULL;
	}
}

static const char *check_affinity(const struct vm_config *cfg)
{
	unsigned int nr;
	const char *why = cfg->affinity ? vm_affinity_parse(cfg->affinity, 0, NULL, &nr) : NULL;

	if (!cfg->affinity || why || nr == 1 || nr == cfg->nr_cpus)
		return why;
	return sentence("CPU affinity has %u lists for %u virtual CPUs: one for all, or one for each",
			nr, cfg->nr_cpus);
}

/* ---- checking ------------------------------------------------------------ */

const char *vm_check_memory(uint64_t bytes)
{
	if (bytes < VM_MEM_MIN || bytes > VM_MEM_MAX)
		return sentence("memory of %llu MiB: must be %llu MiB to %llu MiB",
				(unsigned long long)bytes >> 20, VM_MEM_MIN >> 20, VM_MEM_MAX >> 20);
	return bytes & 0x1fffff ? "memory must be a multiple of 2 MiB" : NULL;
}

const char *vm_check_name(const char *name)
{
	if (!name || !*name || strlen(name) > NAME_CHARS ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
		    strlen(name) || name[0] == '.' || name[0] == '-')
		return "a VM's name is 1 to 40 letters, digits, '.', '_' or '-', the first a letter or digit";
	return NULL;
}

/* what cannot be had from QEMU, or makes no sense without it */
static const char *check_engine(const struct vm_config *cfg)
{
	bool ovmf = cfg->firmware && !strcmp(cfg->firmware, "ovmf");

	if (cfg->efi_vars && !ovmf)
		return "efi-vars: the variables are those of firmware = ovmf";
	if (!vm_config_uses_qemu(cfg))
		return NULL;
	if (cfg->affinity)
		return "cpu-affinity: a VM with firmware, or of another architecture, is run by QEMU, whose threads taskset(1) places";
	if (cfg->unpack != VM_UNPACK_HOST)
		return "unpack: a VM with firmware, or of another architecture, is run by QEMU, which leaves that to the kernel";
	if (cfg->nr_hostdevs)
		return "device: a VM with firmware, or of another architecture, is run by QEMU, which is given no devices of the host";
	if (cfg->nr_dimms)
		return "memory cannot be plugged into a VM that QEMU runs";
	if (ovmf && cfg->arch == VM_ARCH_RISCV64)
		return "firmware: there is no OVMF for riscv64; OpenSBI starts its kernels, or name a file";
	if (cfg->firmware && !strcmp(cfg->firmware, "seabios") && cfg->arch != VM_ARCH_X86_64)
		return "firmware: SeaBIOS is for x86_64";
	return NULL;
}

const char *vm_config_check(const struct vm_config *cfg)
{
	const char *why = vm_check_memory(cfg->mem_bytes);

	if (!why && (cfg->nr_cpus < 1 || cfg->nr_cpus > VM_CPUS_MAX))
		why = sentence("%u CPUs: must be 1 to %u", cfg->nr_cpus, VM_CPUS_MAX);
	if (!why)
		why = vm_check_name(cfg->name);
	if (!why)
		why = check_engine(cfg);
	return why ? why : check_affinity(cfg);
}

/* ---- to JSON ------------------------------------------------------------- */

static void add_string(struct json_object *o, const char *key, const char *v)
{
	if (v)
		json_object_object_add(o, key, json_object_new_string(v));
}

static void add_int(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)v));
}

struct json_object *vm_disk_to_json(const struct vm_disk *d)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "name", d->id);
	add_string(o, "path", d->path);
	json_object_object_add(o, "readonly", json_object_new_boolean(d->readonly));
	add_int(o, "slot", d->slot);
	return o;
}

struct json_object *vm_net_to_json(const struct vm_net *n)
{
	struct json_object *o = json_object_new_object();
	char mac[VM_MAC_CHARS];

	add_string(o, "name", n->id);
	add_string(o, "kind", vm_net_kind_name(n->kind));
	add_string(o, "where", n->where);
	add_string(o, "mac", vm_mac_text(n->mac, mac));
	add_int(o, "slot", n->slot);
	return o;
}

struct json_object *vm_hostdev_to_json(const struct vm_hostdev *d)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "name", d->id);
	add_string(o, "host", d->host);
	add_string(o, "owner", d->owner);
	add_int(o, "slot", d->slot);
	return o;
}

struct json_object *vm_dimm_to_json(const struct vm_dimm *d)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "name", d->id);
	add_int(o, "bytes", d->bytes);
	add_int(o, "gpa", d->gpa);
	add_int(o, "slot", d->slot);
	return o;
}

struct json_object *vm_config_to_json(const struct vm_config *cfg)
{
	struct json_object *o = json_object_new_object();
	struct json_object *initrds = json_object_new_array();
	struct json_object *disks = json_object_new_array();
	struct json_object *nets = json_object_new_array();
	struct json_object *hostdevs = json_object_new_array();
	struct json_object *dimms = json_object_new_array();

	add_string(o, "name", cfg->name);
	add_string(o, "iso", cfg->iso);
	add_string(o, "kernel", cfg->kernel);
	for (unsigned int i = 0; i < cfg->nr_initrds; i++)
		json_object_array_add(initrds, json_object_new_string(cfg->initrds[i]));
	json_object_object_add(o, "initrds", initrds);
	add_string(o, "cmdline", cfg->cmdline);
	add_string(o, "unpack", vm_unpack_name(cfg->unpack));
	add_string(o, "arch", vm_arch_name(cfg->arch));
	if (vm_config_uses_qemu(cfg)) {
		add_string(o, "firmware", cfg->firmware);
		add_string(o, "efi_vars", cfg->efi_vars);
		add_string(o, "accel", vm_accel_name(cfg->accel));
	}
	add_int(o, "memory", cfg->mem_bytes);
	add_int(o, "cpus", cfg->nr_cpus);
	for (unsigned int i = 0; i < cfg->nr_disks; i++)
		json_object_array_add(disks, vm_disk_to_json(&cfg->disks[i]));
	for (unsigned int i = 0; i < cfg->nr_nets; i++)
		json_object_array_add(nets, vm_net_to_json(&cfg->nets[i]));
	for (unsigned int i = 0; i < cfg->nr_hostdevs; i++)
		json_object_array_add(hostdevs, vm_hostdev_to_json(&cfg->hostdevs[i]));
	for (unsigned int i = 0; i < cfg->nr_dimms; i++)
		json_object_array_add(dimms, vm_dimm_to_json(&cfg->dimms[i]));
	json_object_object_add(o, "disks", disks);
	json_object_object_add(o, "nets", nets);
	json_object_object_add(o, "devices", hostdevs);
	json_object_object_add(o, "dimms", dimms);
	json_object_object_add(o, "pinnable", json_object_new_boolean(cfg->pinnable));
	return o;
}

/* ---- from JSON ----------------------------------------------------------- */

static const char *peek_string(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return NULL;
	return json_object_get_string(v);
}

static char *get_string(struct json_object *o, const char *key)
{
	const char *v = peek_string(o, key);

	return v ? strdup(v) : NULL;
}

/* -1: not there, or no number */
static int64_t get_int(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_int))
		return -1;
	return json_object_get_int64(v);
}

/* what all devices have */
static const char *get_head(struct json_object *o, char id[VM_ID_MAX + 1], unsigned int *slot)
{
	const char *name = peek_string(o, "name");
	int64_t n = get_int(o, "slot");

	if (!json_object_is_type(o, json_type_object))
		return "a device is no JSON object";
	if (n > 255)
		return sentence("there is no slot %lld", (long long)n);
	*slot = n > 0 ? (unsigned int)n : 0;
	return name ? parse_id(id, name) : NULL;
}

const char *vm_disk_from_json(struct vm_disk *d, struct json_object *o)
{
	struct json_object *v;
	const char *why;

	memset(d, 0, sizeof(*d));
	why = get_head(o, d->id, &d->slot);
	if (why)
		return why;
	d->readonly = json_object_object_get_ex(o, "readonly", &v) && json_object_get_boolean(v);
	d->path = get_string(o, "path");
	return d->path && *d->path ? NULL : "a disk has no \"path\"";
}

static const char *net_from_json(struct vm_net *n, struct json_object *o)
{
	const char *why = get_head(o, n->id, &n->slot), *kind = peek_string(o, "kind");
	const char *mac = peek_string(o, "mac");
	int k = VM_NET_TAP;

	if (why)
		return why;
	while (k <= VM_NET_PASST && (!kind || strcmp(kind, net_kinds[k])))
		k++;
	if (k > VM_NET_PASST)
		return "a network device is of \"kind\" tap, socket or passt";
	n->kind = (enum vm_net_kind)k;
	n->where = get_string(o, "where");
	why = check_where(n);
	return why || !mac ? why : parse_mac(n->mac, mac);
}

const char *vm_net_from_json(struct vm_net *n, struct json_object *o)
{
	memset(n, 0, sizeof(*n));
	return net_from_json(n, o);
}

static const char *hostdev_from_json(struct vm_hostdev *d, struct json_object *o)
{
	const char *why = get_head(o, d->id, &d->slot);

	if (why)
		return why;
	d->host = get_string(o, "host");
	d->owner = get_string(o, "owner");
	return d->host ? check_host(d->host) : "a device of the host has no \"host\"";
}

const char *vm_hostdev_from_json(struct vm_hostdev *d, struct json_object *o)
{
	memset(d, 0, sizeof(*d));
	return hostdev_from_json(d, o);
}

const char *vm_dimm_from_json(struct vm_dimm *d, struct json_object *o)
{
	const char *why;
	int64_t n;

	memset(d, 0, sizeof(*d));
	why = get_head(o, d->id, &d->slot);
	if (why)
		return why;
	n = get_int(o, "bytes");
	d->bytes = n > 0 ? (uint64_t)n : 0;
	n = get_int(o, "gpa");
	d->gpa = n > 0 ? (uint64_t)n : 0;
	return NULL;
}

static const char *add_json_disk(struct vm_config *cfg, struct json_object *o)
{
	struct vm_disk d;
	const char *why = vm_disk_from_json(&d, o);

	if (!why)
		why = vm_config_add_disk(cfg, &d);
	free(d.path);
	return why;
}

static const char *add_json_net(struct vm_config *cfg, struct json_object *o)
{
	struct vm_net n;
	const char *why = vm_net_from_json(&n, o);

	if (!why)
		why = vm_config_add_net(cfg, &n);
	free(n.where);
	return why;
}

static const char *add_json_dimm(struct vm_config *cfg, struct json_object *o)
{
	struct vm_dimm d;
	const char *why = vm_dimm_from_json(&d, o);

	if (!why && !d.gpa)
		why = "memory has no \"gpa\"";
	return why ? why : vm_config_add_dimm(cfg, &d);
}

static const char *add_json_hostdev(struct vm_config *cfg, struct json_object *o)
{
	struct vm_hostdev d;
	const char *why = vm_hostdev_from_json(&d, o);

	if (!why)
		why = vm_config_add_hostdev(cfg, &d);
	vm_hostdev_free(&d);
	return why;
}

/* snapshots from before there was a choice do not say */
static const char *get_unpack(struct vm_config *cfg, struct json_object *o)
{
	const char *name = peek_string(o, "unpack");

	if (!name || vm_unpack_parse(&cfg->unpack, name))
		return NULL;
	return "\"unpack\" is host, host-nocache or guest";
}

static const char *get_engine(struct vm_config *cfg, struct json_object *o)
{
	const char *arch = peek_string(o, "arch"), *accel = peek_string(o, "accel");

	if (arch && !vm_arch_parse(&cfg->arch, arch))
		return sentence("there is no \"arch\" %.20s", arch);
	if (accel && !vm_accel_parse(&cfg->accel, accel))
		return sentence("there is no \"accel\" %.20s", accel);
	cfg->firmware = get_string(o, "firmware");
	cfg->efi_vars = get_string(o, "efi_vars");
	return NULL;
}

static const char *each(struct vm_config *cfg, struct json_object *o, const char *key,
			const char *(*add)(struct vm_config *cfg, struct json_object *o))
{
	struct json_object *list;
	const char *why = NULL;

	if (!json_object_object_get_ex(o, key, &list))
		return NULL;
	if (!json_object_is_type(list, json_type_array))
		return sentence("its \"%s\" are no list", key);
	for (size_t i = 0; i < json_object_array_length(list) && !why; i++)
		why = add(cfg, json_object_array_get_idx(list, i));
	return why;
}

static const char *add_json_initrd(struct vm_config *cfg, struct json_object *o)
{
	if (!json_object_is_type(o, json_type_string))
		return "an initrd is no file's name";
	return vm_config_add_initrd(cfg, json_object_get_string(o));
}

/* snapshots from before there could be several have one */
static const char *get_initrds(struct vm_config *cfg, struct json_object *o)
{
	const char *one = peek_string(o, "initrd");

	return one ? vm_config_add_initrd(cfg, one) : each(cfg, o, "initrds", add_json_initrd);
}

int vm_config_from_json(struct vm_config *cfg, struct json_object *o,
			const char **why)
{
	struct json_object *v;
	int64_t n;

	memset(cfg, 0, sizeof(*cfg));
	*why = "its description of the VM is no JSON object";
	if (!json_object_is_type(o, json_type_object))
		return -EBADMSG;
	cfg->name = get_string(o, "name");
	cfg->iso = get_string(o, "iso");
	cfg->kernel = get_string(o, "kernel");
	cfg->cmdline = get_string(o, "cmdline");
	n = get_int(o, "memory");
	cfg->mem_bytes = n > 0 ? (uint64_t)n : 0;
	n = get_int(o, "cpus");
	cfg->nr_cpus = n > 0 && n <= VM_CPUS_MAX ? (unsigned int)n : 0;
	cfg->pinnable = json_object_object_get_ex(o, "pinnable", &v) && json_object_get_boolean(v);
	*why = get_unpack(cfg, o);
	if (!*why)
		*why = get_engine(cfg, o);
	if (!*why)
		*why = get_initrds(cfg, o);
	if (!*why)
		*why = each(cfg, o, "disks", add_json_disk);
	if (!*why)
		*why = each(cfg, o, "nets", add_json_net);
	if (!*why)
		*why = each(cfg, o, "devices", add_json_hostdev);
	if (!*why)
		*why = each(cfg, o, "dimms", add_json_dimm);
	if (!*why)
		*why = vm_config_check(cfg);
	if (!*why)
		return 0;
	vm_config_free(cfg);
	return -EBADMSG;
}
