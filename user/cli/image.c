// SPDX-License-Identifier: GPL-2.0-only
/* vmplat image: what a file is, and whether `vmplat run` takes it. */
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"

static const char info_help[] =
"usage: vmplat image info [--quick] [--json] FILE...\n"
"\n"
"Say what each file is, by its content: kernels (bzImage, ELF, arm64, RISC-V, EFI),\n"
"initrds, device trees, firmware, disk images; and whether `vmplat run` takes it\n"
"as --kernel, --initrd or --disk, or why not.\n"
"\n"
"  --quick  do not unpack what is compressed\n"
"  --json   one JSON object\n";

/* ---- for people ------------------------------------------------------------ */

static void show_name(const char *name, int indent)
{
	char text[40];
	size_t n = strlen(name);

	if (n >= sizeof(text))
		n = sizeof(text) - 1;
	for (size_t i = 0; i < n; i++)
		text[i] = name[i] == '_' ? ' ' : name[i];
	text[n] = 0;
	printf("%*s%-18s", indent, "", text);
}

static void show_fact(const struct vmplat_fact *f, int indent)
{
	char num[CLI_NUM_LEN];

	show_name(f->name, indent);
	switch (f->type) {
	case VMPLAT_FACT_TEXT:
		printf("%s\n", f->text);
		break;
	case VMPLAT_FACT_NUMBER:
		printf("%" PRIu64 "\n", f->number);
		break;
	case VMPLAT_FACT_BYTES:
		printf("%s", cli_show_bytes(f->number, num));
		if (f->number >= 1024)
			printf(" (%" PRIu64 ")", f->number);
		printf("\n");
		break;
	case VMPLAT_FACT_ADDRESS:
		printf("0x%" PRIx64 "\n", f->number);
		break;
	case VMPLAT_FACT_FLAG:
		printf("%s\n", f->number ? "yes" : "no");
		break;
	}
}

static void show_image(const struct vmplat_image *img, int indent)
{
	const struct vmplat_fact *f;
	const struct vmplat_image *part;

	for (size_t i = 0; (f = vmplat_image_fact(img, i)); i++)
		show_fact(f, indent);
	for (size_t i = 0; (part = vmplat_image_part(img, i)); i++) {
		printf("%*scontains: %s\n", indent, "", vmplat_image_summary(part));
		show_image(part, indent + 2);
	}
}

static void show(const char *path, const struct vmplat_image *img)
{
	const char *role = vmplat_image_role(img);

	printf("%s%s%s: %s\n", cli_style(stdout, CLI_BOLD), path, cli_style(stdout, CLI_PLAIN),
	       vmplat_image_summary(img));
	show_name("vmplat run", 2);
	if (role)
		printf("%s--%s%s\n", cli_style(stdout, CLI_GREEN), role, cli_style(stdout, CLI_PLAIN));
	else
		printf("%sno%s: %s\n", cli_style(stdout, CLI_YELLOW), cli_style(stdout, CLI_PLAIN),
		       vmplat_image_obstacle(img));
	show_image(img, 2);
}

/* ---- for programs ------------------------------------------------------------ */

static struct json_object *fact_json(const struct vmplat_fact *f)
{
	if (f->type == VMPLAT_FACT_TEXT)
		return json_object_new_string(f->text);
	if (f->type == VMPLAT_FACT_FLAG)
		return json_object_new_boolean(f->number != 0);
	return json_object_new_uint64(f->number);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

static struct json_object *image_json(const struct vmplat_image *img)
{
	struct json_object *o = json_object_new_object(), *facts = json_object_new_object();
	struct json_object *parts = json_object_new_array();
	const struct vmplat_image *part;
	const struct vmplat_fact *f;

	add_text(o, "kind", vmplat_image_kind_name(vmplat_image_kind(img)));
	add_text(o, "summary", vmplat_image_summary(img));
	add_text(o, "role", vmplat_image_role(img));
	add_text(o, "obstacle", vmplat_image_obstacle(img));
	for (size_t i = 0; (f = vmplat_image_fact(img, i)); i++)
		json_object_object_add(facts, f->name, fact_json(f));
	json_object_object_add(o, "facts", facts);
	for (size_t i = 0; (part = vmplat_image_part(img, i)); i++)
		json_object_array_add(parts, image_json(part));
	json_object_object_add(o, "parts", parts);
	return o;
}

/* ---- info -------------------------------------------------------------------- */

static int describe(char **paths, uint32_t flags, struct json_object *list)
{
	int rc = CLI_OK;

	for (; *paths; paths++) {
		struct vmplat_image *img;
		struct json_object *o;

		if (vmplat_image_open(&img, *paths, flags)) {
			rc = cli_fail("%s", vmplat_last_error());
			continue;
		}
		if (list) {
			o = image_json(img);
			add_text(o, "path", *paths);
			json_object_array_add(list, o);
		} else {
			show(*paths, img);
		}
		vmplat_image_close(img);
	}
	return rc;
}

static int image_info(int argc, char **argv)
{
	static const struct option options[] = {
		{ "quick", no_argument, NULL, 'q' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint32_t flags = VMPLAT_IMAGE_F_DEEP;
	struct json_object *all, *list = NULL;
	bool json = false;
	int opt, rc, out;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case 'q':
			flags = 0;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			return cli_help(info_help);
		default:
			return cli_bad_option("image info", opt, argv);
		}
	}
	if (optind == argc)
		return cli_usage("image info", "which file?");
	if (!json)
		return describe(argv + optind, flags, NULL);
	all = json_object_new_object();
	list = json_object_new_array();
	json_object_object_add(all, "images", list);
	rc = describe(argv + optind, flags, list);
	out = cli_json(all);
	return rc ? rc : out;
}

/* ---- the table --------------------------------------------------------------- */

static const char intro[] =
"usage: vmplat image VERB [ARGUMENT...]\n"
"\n"
"Files that machines start from.\n";

static const struct cli_command verbs[] = {
	{ "info",	"what a file is, and whether `vmplat run` takes it",	image_info },
	{ }
};

int cmd_image(int argc, char **argv)
{
	return cli_dispatch("vmplat image", intro, verbs, argc, argv);
}
