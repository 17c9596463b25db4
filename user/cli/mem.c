// SPDX-License-Identifier: GPL-2.0-only
/* vmplat mem: memory files by path, on a mounted vmplatfs. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"

static const char help_create[] =
"usage: vmplat mem create --size SIZE [--mode OCTAL] FILE\n"
"\n"
"Create FILE, which must not exist, on a mounted vmplatfs and give it SIZE\n"
"bytes (K, M, G, T are powers of 1024). A VMM that takes its guest memory from\n"
"a file, shared, can then use it:\n"
"\n"
"  mount -t vmplatfs none /run/vmplat\n"
"  vmplat mem create --size 4G /run/vmplat/g0\n"
"  qemu-system-x86_64 -m 4G -machine q35,memory-backend=m \\\n"
"    -object memory-backend-file,id=m,size=4G,mem-path=/run/vmplat/g0,share=on ...\n";

static const char help_show[] =
"usage: vmplat mem show [--json] FILE...\n"
"\n"
"Show length, memory in use, and what the module tells about each FILE.\n";

static int create_file(const char *path, uint64_t bytes, unsigned int mode)
{
	struct vmplat_mem *mem;
	struct vmplat *dev;
	int fd, rc;

	rc = cli_open_device(&dev);
	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0) {
		rc = cli_fail("%s: cannot create: %s", path, strerror(errno));
		goto close_dev;
	}
	if (vmplat_mem_from_fd(&mem, dev, fd)) {
		rc = cli_fail("%s: not on a vmplatfs; mount one with 'mount -t vmplatfs none DIR'",
			      path);
		goto unlink;
	}
	vmplat_mem_close(mem);
	if (ftruncate(fd, bytes)) {
		rc = cli_fail("%s: cannot give it %" PRIu64 " bytes: %s", path, bytes,
			      strerror(errno));
		goto unlink;
	}
	goto close_fd;
unlink:
	unlink(path);
close_fd:
	close(fd);
close_dev:
	vmplat_close(dev);
	return rc;
}

static int mem_create(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "mode", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t bytes = 0, mode = 0600;
	char octal[16];
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":s:m:h", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			rc = cli_parse_size("mem create", "--size", optarg, &bytes);
			if (rc)
				return rc;
			break;
		case 'm':
			snprintf(octal, sizeof(octal), "0%s", optarg);
			rc = cli_parse_u64("mem create", "--mode", octal, 0, 0777, &mode);
			if (rc)
				return rc;
			break;
		case 'h':
			return cli_help(help_create);
		default:
			return cli_bad_option("mem create", opt, argv);
		}
	}
	if (!bytes)
		return cli_usage("mem create", "--size is missing or 0");
	if (bytes % sysconf(_SC_PAGESIZE))
		return cli_usage("mem create", "--size: %" PRIu64 " is not a multiple of the page "
				 "size, %ld", bytes, sysconf(_SC_PAGESIZE));
	if (argc - optind != 1)
		return cli_usage("mem create", "one FILE is needed, %d given", argc - optind);
	return create_file(argv[optind], bytes, mode);
}

/* Lines "vmplat-NAME: VALUE" of the descriptor's fdinfo, each to @each. */
static void fdinfo(int fd, void (*each)(void *arg, const char *name, const char *value),
		   void *arg)
{
	char path[64], line[256], *value;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		value = strchr(line, ':');
		if (!value || strncmp(line, "vmplat", 6))
			continue;
		*value++ = '\0';
		value += strspn(value, " \t");
		value[strcspn(value, "\n")] = '\0';
		each(arg, line[6] ? line + 7 : line, value);
	}
	if (f)
		fclose(f);
}

static void print_line(void *arg, const char *name, const char *value)
{
	printf("  %-12s %s\n", name, value);
}

static void add_member(void *arg, const char *name, const char *value)
{
	char *end;
	uint64_t n = strtoull(value, &end, 10);

	json_object_object_add(arg, name, *end || end == value ? json_object_new_string(value) :
			       json_object_new_uint64(n));
}

static int show_one(struct vmplat *dev, const char *path, struct json_object *list)
{
	char len[CLI_NUM_LEN], used[CLI_NUM_LEN];
	struct vmplat_mem *mem;
	struct stat st;
	int fd, rc = CLI_OK;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cli_fail("%s: %s", path, strerror(errno));
	if (vmplat_mem_from_fd(&mem, dev, fd)) {
		rc = cli_fail("%s: %s", path, "not a memory file (not on a vmplatfs)");
		goto close_fd;
	}
	fstat(fd, &st);
	if (list) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "file", json_object_new_string(path));
		json_object_object_add(o, "bytes", json_object_new_uint64(st.st_size));
		json_object_object_add(o, "used_bytes",
				       json_object_new_uint64((uint64_t)st.st_blocks * 512));
		fdinfo(fd, add_member, o);
		json_object_array_add(list, o);
	} else {
		printf("%s: %s, %s in use\n", path, cli_show_bytes(st.st_size, len),
		       cli_show_bytes((uint64_t)st.st_blocks * 512, used));
		fdinfo(fd, print_line, NULL);
	}
	vmplat_mem_close(mem);
close_fd:
	close(fd);
	return rc;
}

static int mem_show(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct json_object *list = NULL;
	struct vmplat *dev;
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			list = list ? list : json_object_new_array();
			break;
		case 'h':
			return cli_help(help_show);
		default:
			return cli_bad_option("mem show", opt, argv);
		}
	}
	if (optind == argc)
		return cli_usage("mem show", "a FILE is needed");
	rc = cli_open_device(&dev);
	if (rc)
		return rc;
	for (; optind < argc; optind++)
		rc |= show_one(dev, argv[optind], list);
	if (list)
		rc |= cli_json(list);
	vmplat_close(dev);
	return rc;
}

int cmd_mem(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "create",	"create a memory file on a vmplatfs",	mem_create },
		{ "show",	"show how memory files stand",		mem_show },
		{ }
	};

	return cli_dispatch("vmplat mem", "usage: vmplat mem VERB [ARGUMENT...]\n", verbs,
			    argc, argv);
}
