/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Configuration files and flags of `vmplat run`: what they come to, that both are the
 * same, that what is printed reads back, and what is said about mistakes.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/settings.h"
#include "tap.h"

static char why[SETTINGS_WHY];

static int read_text(struct settings *s, const char *text)
{
	*why = '\0';
	return settings_read(s, "a.conf", "/dir", text, strlen(text), why);
}

/* the settings as a file */
static char *printed(const struct settings *s)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	if (settings_print(s, to))
		abort();
	fclose(to);
	return text;
}

/* what is wrong with @text, when read or when applied */
static bool told(const char *text, const char *say)
{
	struct settings *s = settings_new();
	struct launch l;
	int ret = read_text(s, text);

	if (!ret) {
		ret = settings_apply(s, &l, why);
		if (!ret)
			launch_free(&l);
	}
	settings_free(s);
	if (ret && strstr(why, say))
		return true;
	printf("# \"%s\" for \"%s\"\n", ret ? why : "all is well", text);
	return false;
}

static const char everything[] =
"# a comment\n"
"; another\n"
"name=web\r\n"
"  kernel  =  vmlinuz  \n"
"initrd = a.img\n"
"initrd = /b.img\n"
"cmdline = root=/dev/vda ro # no comment\n"
"append = \" two  \\\"words\\\" \\\\ \"\n"
"memory = 1.5G\n"
"cpus = 2\n"
"cpu-affinity = 0-1,3:2\n"
"console = log\n"
"detach = no\n"
"paused = yes\n"
"no-reboot = yes\n"
"memory-backend = memfd\n"
"unpack = guest\n"
"\n"
"[disk]\n"
"file = a,ro.raw\n"
"id = root\n"
"[disk]\n"
"file = /b.raw\n"
"ro = yes\n"
"[net]\n"
"tap = web0\n"
"mac = 02:00:00:00:00:01\n"
"[net]\n"
"socket = wire\n"
"[net]\n"
"passt = yes";

static void check_everything(const struct launch *l)
{
	const struct vm_config *c = &l->cfg;

	CHECK(!strcmp(c->name, "web") && !strcmp(c->kernel, "/dir/vmlinuz"));
	REQUIRE(c->nr_initrds == 2);
	CHECK(!strcmp(c->initrds[0], "/dir/a.img") && !strcmp(c->initrds[1], "/b.img"));
	CHECK(!strcmp(l->cmdline, "root=/dev/vda ro # no comment"));
	CHECK(!strcmp(l->append, " two  \"words\" \\ "));
	CHECK_EQ(c->mem_bytes, 1536ULL << 20);
	CHECK_EQ(c->nr_cpus, 2);
	CHECK(!strcmp(c->affinity, "0-1,3:2") && !strcmp(l->console, "/dir/log"));
	CHECK(!l->detach && l->paused && c->no_reboot);
	CHECK(c->backend == VM_BACKEND_MEMFD && c->unpack == VM_UNPACK_GUEST);
	REQUIRE(c->nr_disks == 2);
	CHECK(!strcmp(c->disks[0].path, "/dir/a,ro.raw") && !c->disks[0].readonly);
	CHECK(!strcmp(c->disks[0].id, "root"));
	CHECK(!strcmp(c->disks[1].path, "/b.raw") && c->disks[1].readonly);
	REQUIRE(c->nr_nets == 3);
	CHECK(c->nets[0].kind == VM_NET_TAP && !strcmp(c->nets[0].where, "web0"));
	CHECK_EQ(c->nets[0].mac[5], 1);
	CHECK(c->nets[1].kind == VM_NET_SOCKET && !strcmp(c->nets[1].where, "/dir/wire"));
	CHECK(c->nets[2].kind == VM_NET_PASST);
}

TEST(all_settings)
{
	struct settings *s = settings_new();
	struct launch l;
	char *first, *second;

	if (read_text(s, everything) || settings_apply(s, &l, why))
		printf("# %s\n", why);
	check_everything(&l);
	launch_free(&l);
	/* printed, it reads back as the same, and prints as the same */
	first = printed(s);
	settings_free(s);
	s = settings_new();
	REQUIRE(!read_text(s, first) && !settings_apply(s, &l, why));
	check_everything(&l);
	launch_free(&l);
	second = printed(s);
	CHECK(!strcmp(first, second));
	free(first);
	free(second);
	settings_free(s);
}

static bool is_device(const char *name)
{
	return !strcmp(name, "disk") || !strcmp(name, "net") || !strcmp(name, "device");
}

/* functions of the host: names of all kinds, and what cannot be one */
TEST(devices)
{
	struct settings *s = settings_new();
	struct launch l;

	REQUIRE(!read_text(s, "[device]\nhost = 0000:01:00.0#2\nowner = ops\nid = nic\n"));
	CHECK(!settings_assign(s, "device", "pci0000:00/1c.0/00.0", why));
	REQUIRE(!settings_apply(s, &l, why));
	CHECK_EQ(l.cfg.nr_hostdevs, 2);
	CHECK(!strcmp(l.cfg.hostdevs[0].host, "0000:01:00.0#2"));
	CHECK(!strcmp(l.cfg.hostdevs[0].owner, "ops") && !strcmp(l.cfg.hostdevs[0].id, "nic"));
	CHECK(!strcmp(l.cfg.hostdevs[1].host, "pci0000:00/1c.0/00.0"));
	CHECK(!l.cfg.hostdevs[1].owner && !strcmp(l.cfg.hostdevs[1].id, "dev0"));
	launch_free(&l);
	CHECK(settings_assign(s, "device", "0000:02:00.0,mac=x", why) || settings_apply(s, &l, why));
	settings_free(s);
	CHECK(told("[device]\nowner = x\n", "which one?"));
	CHECK(told("[device]\nhost = 01:00.0#\n", "behind '#' comes the number of a VF"));
	CHECK(told("[device]\nhost = 01:00.0#1a\n", "behind '#' comes the number of a VF"));
	CHECK(told("[device]\nhost = #1\n", "is no PCI function"));
	CHECK(told("[device]\nhost = a b\n", "is no PCI function"));
	CHECK(told("[device]\nhost = 01:00.0\nowner =\n", "owner= needs a name"));
	CHECK(told("[device]\nhost = 01:00.0\n[device]\nhost = 01:00.0\n", "is there already, as 'dev0'"));
	CHECK(told("arch = riscv64\n[device]\nhost = 01:00.0\n", "is given no devices of the host"));
}

/* each setting of the table has a flag, and the flag does as the key does */
TEST(flags_are_keys)
{
	static const char *const values[][2] = {
		{ "name", "web" }, { "kernel", "/k" }, { "initrd", "/i" }, { "cmdline", "quiet" },
		{ "append", "more" }, { "iso", "/disc" }, { "iso-entry", "2" }, { "memory", "64M" },
		{ "cpus", "3" }, { "cpu-affinity", "0" }, { "console", "none" }, { "detach", "yes" },
		{ "paused", "yes" }, { "no-reboot", "yes" }, { "memory-backend", "memfd" },
		{ "unpack", "guest" }, { "firmware", "ovmf" }, { "efi-vars", "/vars" }, { "arch", "riscv64" },
		{ "accel", "tcg" }, { "pinnable", "yes" },
	};
	struct settings *flags = settings_new(), *file = settings_new();
	struct option options[64];
	char letters[128], line[100], text[2000] = "", *a, *b;
	unsigned int nr = 0;

	settings_options(options, 64, letters, sizeof(letters));
	for (struct option *o = options; o->name; o++) {
		unsigned int i = 0;

		if (is_device(o->name))
			continue;
		while (i < sizeof(values) / sizeof(values[0]) && strcmp(values[i][0], o->name))
			i++;
		if (i == sizeof(values) / sizeof(values[0])) {
			printf("# no value for %s here\n", o->name);
			CHECK(false);
			continue;
		}
		nr++;
		CHECK(!settings_flag(flags, o->val, values[i][1], why));
		snprintf(line, sizeof(line), "%s = %s\n", o->name, values[i][1]);
		strcat(text, line);
	}
	CHECK_EQ(nr, sizeof(values) / sizeof(values[0]));
	CHECK(!settings_assign(flags, "disk", "/a,b,ro,id=x", why));
	CHECK(!settings_assign(flags, "net", "socket=/s,mac=02:00:00:00:00:09,id=lan", why));
	/* words of a disk are taken from the end */
	strcat(text, "[disk]\nid=x\nro=yes\nfile=/a,b\n");
	strcat(text, "[net]\nsocket=/s\nmac=02:00:00:00:00:09\nid=lan\n");
	CHECK(!read_text(file, text));
	a = printed(flags);
	b = printed(file);
	CHECK(!strcmp(a, b));
	if (strcmp(a, b))
		printf("%s---\n%s", a, b);
	free(a);
	free(b);
	settings_free(flags);
	settings_free(file);
}

TEST(flags_replace)
{
	struct settings *s = settings_new();
	struct launch l;

	REQUIRE(!read_text(s, everything));
	CHECK(!settings_assign(s, "memory", "64M", why));
	CHECK(!settings_assign(s, "memory", "128M", why));
	CHECK(!settings_assign(s, "initrd", "one", why));
	CHECK(!settings_assign(s, "initrd", "two", why));
	CHECK(!settings_assign(s, "initrd", "three", why));
	CHECK(!settings_assign(s, "no-reboot", "no", why));
	CHECK(!settings_assign(s, "disk", "other.raw,id=root", why));
	CHECK(!settings_assign(s, "disk", "third.raw", why));
	REQUIRE(!settings_apply(s, &l, why));
	CHECK_EQ(l.cfg.mem_bytes, 128 << 20);
	REQUIRE(l.cfg.nr_initrds == 3);
	CHECK(!strcmp(l.cfg.initrds[0], "one") && !strcmp(l.cfg.initrds[2], "three"));
	CHECK(!l.cfg.no_reboot);
	REQUIRE(l.cfg.nr_disks == 3);
	CHECK(!strcmp(l.cfg.disks[0].path, "/b.raw"));
	CHECK(!strcmp(l.cfg.disks[1].path, "other.raw") && !strcmp(l.cfg.disks[1].id, "root"));
	CHECK(!strcmp(l.cfg.disks[2].path, "third.raw"));
	launch_free(&l);
	settings_free(s);
}

TEST(mistakes)
{
	CHECK(told("kernel = k\nmemroy = 1G\n", "a.conf:2: there is no setting 'memroy'; did you mean 'memory'?"));
	CHECK(told("xyzzy = 1\n", "a.conf:1: there is no setting 'xyzzy'"));
	CHECK(told("\n\nmemory = 1Q\n", "a.conf:3: memory: "));
	CHECK(told("memory = 1M\n", "a.conf:1: memory: memory of 1 MiB: must be"));
	CHECK(told("memory = 67108865\n", "a.conf:1: memory: memory must be a multiple of 2 MiB"));
	CHECK(told("cpus = 65\n", "a.conf:1: cpus: it is a number from 1 to 64"));
	CHECK(told("cpus = -1\n", "a.conf:1: cpus: "));
	CHECK(told("cpus = 2 # two\n", "a.conf:1: cpus: "));
	CHECK(told("name = a b\n", "a.conf:1: name: a VM's name is"));
	CHECK(told("cpus = 1\ncpus = 2\n", "a.conf:2: cpus: given in line 1 already"));
	CHECK(told("detach = maybe\n", "a.conf:1: detach: it is yes or no"));
	CHECK(told("unpack = me\n", "a.conf:1: unpack: it is host, host-nocache or guest"));
	CHECK(told("disk = a.raw\n", "a.conf:1: a disk is a section, [disk]"));
	CHECK(told("[dsk]\n", "a.conf:1: there is no section 'dsk'; did you mean 'disk'?"));
	CHECK(told("[memory]\n", "a.conf:1: there is no section 'memory'"));
	CHECK(told("[disk\nfile = a\n", "a.conf:1: a section ends with ']'"));
	CHECK(told("[", "a.conf:1: a section ends with ']'"));
	CHECK(told("[]", "a.conf:1: there is no section ''"));
	CHECK(told("\n[disk]\n[net]\npasst=yes\n", "a.conf:2: the section [disk] says nothing"));
	CHECK(told("[net]\n", "a.conf:1: the section [net] says nothing"));
	CHECK(told("[disk]\nro = yes\n", "a.conf:2: ro: it names no file"));
	CHECK(told("[disk]\nfile = a\nfiel = b\n", "a.conf:3: there is no setting of a disk 'fiel'; did you mean 'file'?"));
	CHECK(told("[disk]\nfile = a\nfile = b\n", "a.conf:3: file: given in line 2 already"));
	CHECK(told("[disk]\nfile = a\nid = A\n", "a.conf:2: file: 'A' is no id"));
	CHECK(told("[disk]\nfile = a\nid = x\n[disk]\nfile = b\nid = x\n", "a.conf:5: file: there is a device 'x'"));
	CHECK(told("[net]\ntap = a\nsocket = b\n", "a.conf:3: socket: one network device has one of"));
	CHECK(told("[net]\nmac = 02:00:00:00:00:01\n", "a.conf:2: mac: to what?"));
	CHECK(told("[net]\npasst = no\n", "a.conf:2: passt: to what?"));
	CHECK(told("kernel\n", "a.conf:1: a line is KEY = VALUE"));
	CHECK(told("= x\n", "a.conf:1: a line is KEY = VALUE"));
	CHECK(told("cmdline = \"a\n", "a.conf:1: a quote is not closed"));
	CHECK(told("cmdline = \"a\\\n", "a.conf:1: between quotes"));
	CHECK(told("cmdline = \"a\\x\"\n", "a.conf:1: between quotes"));
	CHECK(told("cmdline = \"a\" b\n", "a.conf:1: there is more behind"));
	CHECK(told("cpu-affinity = 1:2:3\ncpus = 2\n", "a.conf: CPU affinity has 3 lists for 2"));
	CHECK(told("cpu-affinity = 1-\n", "a.conf:1: cpu-affinity: '1-' is no list"));
	CHECK(told("cpu-affinity = 3-1\n", "3-1 runs backwards"));
	CHECK(told("cpu-affinity = 0-99999999999999999999\n", "there is no CPU"));
	CHECK(told("cpu-affinity = 1,\n", "is no list"));
	CHECK(told("cpu-affinity = 1::2\n", "is no list"));
}

TEST(bad_bytes)
{
	struct settings *s = settings_new();

	CHECK(settings_read(s, "a.conf", "", "cpus = 2\nname = a\0b\n", 20, why));
	CHECK(strstr(why, "a.conf:2: a zero byte"));
	settings_free(s);
}

TEST(too_much)
{
	struct settings *s = settings_new();
	char *text = malloc(20 * 2000), *to = text;

	for (int i = 0; i < 2000; i++)
		to += sprintf(to, "initrd = %d\n", i);
	CHECK(read_text(s, text) && strstr(why, "a.conf:1001: more than 1000 settings"));
	settings_free(s);
	s = settings_new();
	to = text;
	for (int i = 0; i < 17; i++)
		to += sprintf(to, "initrd = %d\n", i);
	CHECK(told(text, "a.conf:17: initrd: a VM has at most 16 initrds"));
	settings_free(s);
	free(text);
}

TEST(bad_flags)
{
	static const char *const bad[][3] = {
		{ "memory", "7Q", "--memory 7Q: " }, { "no-reboot", "perhaps", "--no-reboot: it is yes or no" },
		{ "disk", ",ro", "--disk" }, { "net", "wire", "--net wire: 'wire' is none of tap=NAME, socket=PATH, passt, mac=ADDRESS, id=ID" },
		{ "cpus", "0", "--cpus 0: " },
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct settings *s = settings_new();
		struct launch l;
		int ret = settings_assign(s, bad[i][0], bad[i][1], why);

		if (!ret)
			ret = settings_apply(s, &l, why);
		CHECK(ret && strstr(why, bad[i][2]));
		if (!ret || !strstr(why, bad[i][2]))
			printf("# %s\n", ret ? why : "all is well");
		settings_free(s);
	}
}

/* what makes QEMU the engine, and what then cannot be */
TEST(firmware)
{
	struct settings *s = settings_new();
	struct launch l;

	REQUIRE(!read_text(s, "firmware = ovmf\nefi-vars = v\naccel = tcg\narch = aarch64\n") &&
		!settings_apply(s, &l, why));
	CHECK(!strcmp(l.cfg.firmware, "ovmf") && !strcmp(l.cfg.efi_vars, "/dir/v"));
	CHECK(l.cfg.accel == VM_ACCEL_TCG && l.cfg.arch == VM_ARCH_AARCH64 && l.arch_given);
	CHECK(vm_config_uses_qemu(&l.cfg));
	launch_free(&l);
	settings_free(s);
	s = settings_new();
	REQUIRE(!read_text(s, "firmware = bios.bin\n") && !settings_apply(s, &l, why));
	CHECK(!strcmp(l.cfg.firmware, "/dir/bios.bin") && l.cfg.arch == VM_ARCH_X86_64 && !l.arch_given);
	launch_free(&l);
	settings_free(s);

	CHECK(told("firmware =\n", "seabios, ovmf, or a file"));
	CHECK(told("arch = mips\n", "x86_64, aarch64 or riscv64"));
	CHECK(told("accel = fast\n", "auto, kvm or tcg"));
	CHECK(told("efi-vars = v\n", "those of firmware = ovmf"));
	CHECK(told("firmware = seabios\nefi-vars = v\n", "those of firmware = ovmf"));
	CHECK(told("firmware = seabios\narch = riscv64\n", "SeaBIOS is for x86_64"));
	CHECK(told("firmware = ovmf\narch = riscv64\n", "no OVMF for riscv64"));
	CHECK(told("arch = riscv64\ncpu-affinity = 1\n", "taskset"));
	CHECK(told("arch = riscv64\nunpack = guest\n", "leaves that to the kernel"));
}

TEST(affinity)
{
	unsigned int nr;
	struct vmplat_cpus set;

	REQUIRE(!vm_affinity_parse("1,4-6", 7, &set, &nr));
	CHECK(nr == 1 && vmplat_cpus_count(&set) == 4 && vmplat_cpus_has(&set, 1) && vmplat_cpus_has(&set, 5));
	REQUIRE(!vm_affinity_parse("1:2:3-4", 2, &set, &nr));
	CHECK(nr == 3 && vmplat_cpus_count(&set) == 2 && vmplat_cpus_has(&set, 3) && vmplat_cpus_has(&set, 4));
	REQUIRE(!vm_affinity_parse("1:2:3-4", 1, &set, &nr));
	CHECK(vmplat_cpus_count(&set) == 1 && vmplat_cpus_has(&set, 2));
}

TEST(files)
{
	static const char *const names[] = {
		"linux", "debian-disk", "debian-installer", "alpine", "uefi-disk", "uefi-installer", "riscv64",
	};
	char path[200];

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct settings *s = settings_new();
		struct launch l;

		snprintf(path, sizeof(path), "../packaging/guests/%s.conf", names[i]);
		if (settings_read_file(s, path, why) || settings_apply(s, &l, why)) {
			printf("# %s\n", why);
			CHECK(false);
		} else {
			CHECK(!strncmp(l.cfg.kernel ? l.cfg.kernel : l.cfg.iso ? l.cfg.iso : l.cfg.disks[0].path,
				       "../packaging/guests/", 20));
			launch_free(&l);
		}
		settings_free(s);
	}
}

/* the manual page has every setting, and no other */
TEST(manual)
{
	static char text[65536];
	struct option options[64];
	char letters[128], item[100];
	FILE *f = fopen("man/vmplat.conf.5", "r");
	unsigned int items = 0, nr = 0;

	REQUIRE(f && fread(text, 1, sizeof(text) - 1, f) > 1000);
	fclose(f);
	settings_options(options, 64, letters, sizeof(letters));
	for (struct option *o = options; o->name; o++) {
		bool device = is_device(o->name);

		snprintf(item, sizeof(item), device ? "\n.Ss [%s]\n" : "\n.It Cm %s\n", o->name);
		if (!strstr(text, item))
			printf("# %s is missing\n", o->name);
		CHECK(strstr(text, item));
		nr += !device;
	}
	for (const struct vm_key *k = vm_disk_kind.keys; k->name; k++)
		nr++;
	for (const struct vm_key *k = vm_net_kind.keys; k->name; k++)
		nr++;
	for (const struct vm_key *k = vm_hostdev_kind.keys; k->name; k++)
		nr++;
	for (const char *at = text; (at = strstr(at, "\n.It Cm ")); at++)
		items++;
	CHECK_EQ(items, nr);
}

TEST(no_files)
{
	struct settings *s = settings_new();
	char path[] = "/tmp/settings.XXXXXX";
	int fd = mkstemp(path);

	CHECK(settings_read_file(s, "/nowhere/a.conf", why) && strstr(why, "/nowhere/a.conf: No such file"));
	CHECK(settings_read_file(s, "/", why) && strstr(why, "/: Is a directory"));
	REQUIRE(fd >= 0 && !ftruncate(fd, SETTINGS_FILE_MAX + 1));
	CHECK(settings_read_file(s, path, why) && strstr(why, "more than 1 MiB"));
	close(fd);
	unlink(path);
	settings_free(s);
}

int main(void)
{
	RUN(all_settings);
	RUN(flags_are_keys);
	RUN(flags_replace);
	RUN(mistakes);
	RUN(bad_bytes);
	RUN(too_much);
	RUN(bad_flags);
	RUN(firmware);
	RUN(affinity);
	RUN(files);
	RUN(devices);
	RUN(manual);
	RUN(no_files);
	return tap_done();
}
