// SPDX-License-Identifier: GPL-2.0-only
/* Policies of the hot-plug manager: read, refused line by line, matched, decided. */
#include "plug_tree.h"
#include "tap.h"

static struct plug_policy policy;

static int parse(const char *text)
{
	plug_policy_free(&policy);
	return plug_policy_parse(&policy, text, strlen(text));
}

/* Is @text refused with one error, which has @why in it? */
static bool refused(const char *text, const char *why)
{
	int err = parse(text);

	if (err == -EINVAL && policy.nr_errors == 1 && !policy.nr_rules &&
	    strstr(policy.errors[0], why))
		return true;
	printf("# %s: %d, %zu errors, %s\n", text, err, policy.nr_errors,
	       policy.nr_errors ? policy.errors[0] : "-");
	return false;
}

TEST(good)
{
	CHECK_EQ(parse(""), 0);
	CHECK_EQ(policy.nr_rules, 0);
	CHECK_EQ(parse("# nothing\n\n   \t# here\n"), 0);
	CHECK_EQ(policy.nr_rules, 0);
	CHECK_EQ(parse("cpu => online # why\r\nmemory node=1 => online_movable rezone\n"
		       "pci id=8086:10ed class=0200 => driver vfio-pci rebind\nnet name=tap* => vm web"), 0);
	REQUIRE(policy.nr_rules == 4);
	CHECK_EQ(policy.rules[0].verb, PLUG_ONLINE);
	CHECK_EQ(policy.rules[0].line, 1);
	CHECK_EQ(policy.rules[1].verb, PLUG_ONLINE_MOVABLE);
	CHECK(policy.rules[1].take);
	CHECK_EQ(policy.rules[2].nr_matches, 2);
	CHECK(!strcmp(policy.rules[2].arg, "vfio-pci"));
	CHECK(policy.rules[2].take);
	CHECK_EQ(policy.rules[3].line, 4);
	CHECK(!strcmp(policy.rules[3].arg, "web"));
}

TEST(bad)
{
	CHECK(refused("\n\nusb => leave\n", "line 3: 'usb' is none of cpu, memory, pci, net"));
	CHECK(refused("cpu\n", "line 1: there is no =>"));
	CHECK(refused("cpu =>\n", "nothing is said after =>"));
	CHECK(refused("cpu online\n", "'online' is not KEY=VALUE"));
	CHECK(refused("cpu => onlin\n", "'onlin' is nothing to do with cpu; there is leave, online, offline"));
	CHECK(refused("cpu => online_kernel\n", "'online_kernel' is nothing to do with cpu"));
	CHECK(refused("cpu => online now\n", "'now' is not understood after online"));
	CHECK(refused("memory => online rezone\n", "'rezone' is not understood after online"));
	CHECK(refused("memory => online_movable rebind\n", "there may be rezone"));
	CHECK(refused("cpu id=8086:* => online\n", "a rule for cpu has no key 'id'; it may have number, node"));
	CHECK(refused("cpu number= => online\n", "number= is empty"));
	CHECK(refused("cpu number=3-1 => online\n", "3 comes after 1"));
	CHECK(refused("cpu number=1,,2 => online\n", "no list of numbers"));
	CHECK(refused("cpu number=1- => online\n", "no list of numbers"));
	CHECK(refused("cpu number=99999999999999999999 => online\n", "no list of numbers"));
	CHECK(refused("cpu number=-1 => online\n", "no list of numbers"));
	CHECK(refused("cpu number=1 number=2 => online\n", "number= is there twice"));
	CHECK(refused("pci id=8086 => leave\n", "is not VENDOR:DEVICE"));
	CHECK(refused("pci id=8086:10e => leave\n", "is not VENDOR:DEVICE"));
	CHECK(refused("pci id=8086:10eg => leave\n", "is not VENDOR:DEVICE"));
	CHECK(refused("pci class=020 => leave\n", "2, 4 or 6 hexadecimal digits"));
	CHECK(refused("pci address=3 => leave\n", "is not [DOMAIN:]BUS:DEVICE.FUNCTION"));
	CHECK(refused("pci => driver\n", "driver needs the name of a driver"));
	CHECK(refused("pci => driver ../x\n", "'../x' is no name"));
	CHECK(refused("pci => driver a/b\n", "'a/b' is no name"));
	CHECK(refused("pci => vm web\n", "a PCI device cannot be handed to a VM"));
	CHECK(refused("memory => vm web\n", "vmplat vm device add VM memory"));
	CHECK(refused("cpu => online\ncpu number=1 => offline\n",
		      "line 2: this rule never decides: the one of line 1"));
	CHECK(refused("cpu => online\x01\n", "control character"));
}

TEST(zero_byte)
{
	static const char text[] = "cpu => online\0\nmemory => leave\n";

	plug_policy_free(&policy);
	CHECK_EQ(plug_policy_parse(&policy, text, sizeof(text) - 1), -EINVAL);
	REQUIRE(policy.nr_errors == 1);
	CHECK(!strcmp(policy.errors[0], "line 1: there is a zero byte"));
}

TEST(all_errors_are_named)
{
	CHECK_EQ(parse("cpu => x\nmemory => online\npci => y\n"), -EINVAL);
	CHECK_EQ(policy.nr_errors, 2);
	CHECK_EQ(policy.nr_rules, 0);
	CHECK(strstr(policy.errors[0], "line 1:") && strstr(policy.errors[1], "line 3:"));
}

TEST(files)
{
	plug_policy_free(&policy);
	CHECK_EQ(plug_policy_load(&policy, "/nonexistent/policy"), -ENOENT);
	CHECK(strstr(plug_error(), "/nonexistent/policy"));
	plug_policy_free(&policy);
	CHECK_EQ(plug_policy_load(&policy, "/tmp"), -EINVAL);
	plug_policy_free(&policy);
	CHECK_EQ(plug_policy_load(&policy, "/dev/zero"), -EINVAL);
}

/* ---- matching --------------------------------------------------------------------- */

static struct plug_object object(enum plug_class class_, const char *name)
{
	struct plug_object o;

	if (plug_look(&tree_host, class_, name, "", &o)) {
		printf("# %s\n", plug_error());
		abort();
	}
	return o;
}

static bool fits(const char *conditions, enum plug_class class_, const char *name)
{
	struct plug_object o = object(class_, name);
	char text[256];

	snprintf(text, sizeof(text), "%s %s => leave\n", plug_class_name(class_), conditions);
	if (parse(text)) {
		printf("# %s: %s\n", text, plug_error());
		abort();
	}
	return plug_rule_fits(&policy.rules[0], &o);
}

TEST(matches)
{
	tree_new();
	tree_cpu(3, 1, "0");
	tree_memory(40, 1, "offline", "Normal Movable");
	tree_pci("0000:03:00.1", "8086:10ed", "0x020000", "ixgbe", true);
	tree_link("../../../kernel/iommu_groups/12", PCI_DIR "/0000:03:00.1/iommu_group");
	tree_dir("class/net/tap7");
	CHECK(fits("", PLUG_CPU, "cpu3"));
	CHECK(fits("number=0,2-4", PLUG_CPU, "cpu3"));
	CHECK(!fits("number=0-2,4", PLUG_CPU, "cpu3"));
	CHECK(fits("number=0x3 node=1", PLUG_CPU, "cpu3"));
	CHECK(!fits("number=3 node=0", PLUG_CPU, "cpu3"));
	CHECK(fits("block=40", PLUG_MEMORY, "memory40"));
	CHECK(fits("range=0x140000000-0x147ffffff", PLUG_MEMORY, "memory40"));
	CHECK(!fits("range=0x140000000-0x147fffffe", PLUG_MEMORY, "memory40"));
	CHECK(!fits("range=0x140000001-0x200000000", PLUG_MEMORY, "memory40"));
	CHECK(fits("class=02", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("class=0200", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("class=0201", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("id=8086:10ED", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("id=8086:*", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("id=*:10ed", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("id=8087:*", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("subsystem=1af4:1100", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("subsystem=1af4:1101", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("address=03:00.*", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("address=0000:03:00.1", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("address=0001:03:00.1", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("slot=7", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("slot=8", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("group=12", PLUG_PCI, "0000:03:00.1"));
	CHECK(!fits("group=1", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("node=0", PLUG_PCI, "0000:03:00.1"));
	CHECK(fits("name=tap*", PLUG_NETDEV, "tap7"));
	CHECK(!fits("name=vm*", PLUG_NETDEV, "tap7"));
	tree_free();
}

/* ---- decisions ------------------------------------------------------------------------ */

/* NULL for a change, else why not */
static const char *decide(const char *rules, enum plug_class class_, const char *name)
{
	static struct plug_verdict v;
	struct plug_object o = object(class_, name);

	if (parse(rules))
		abort();
	plug_decide(&tree_host, &policy, &o, &v);
	return v.change ? NULL : v.why;
}

static bool says(const char *why, const char *text)
{
	if (why && strstr(why, text))
		return true;
	printf("# '%s', not '%s'\n", why ? why : "a change", text);
	return false;
}

TEST(decisions)
{
	tree_new();
	tree_cpu(0, 0, NULL);
	tree_cpu(1, 0, "0");
	tree_memory(0, 0, "online", "none");
	tree_memory(9, 0, "online", "DMA32");
	tree_memory(40, 1, "offline", "Normal Movable");
	tree_memory(41, 1, "offline", "Normal");
	tree_pci("0000:00:06.0", "1b36:000c", "0x060400", "pcieport", true);
	tree_pci("0000:03:00.0", "8086:10ed", "0x020000", "ixgbe", true);
	tree_pci("0000:03:00.1", "8086:10ed", "0x020000", "ixgbe", false);
	tree_dir("class/net/eth0");
	tree_dir("class/net/tap0");
	tree_put("0x1002", "class/net/tap0/tun_flags");
	setenv("VMPLAT_RUN_DIR", tree, 1);

	CHECK(says(decide("memory => online\n", PLUG_CPU, "cpu1"), "no rule fits it"));
	CHECK(says(decide("\ncpu => leave\n", PLUG_CPU, "cpu1"), "line 2 says so"));
	CHECK(!decide("cpu => online\n", PLUG_CPU, "cpu1"));
	CHECK(says(decide("cpu number=1 => leave\ncpu => online\n", PLUG_CPU, "cpu1"), "line 1 says so"));
	CHECK(says(decide("cpu => offline\n", PLUG_CPU, "cpu1"), "is so already: offline"));
	CHECK(says(decide("cpu => offline\n", PLUG_CPU, "cpu0"), "does not let it go offline"));
	CHECK(says(decide("cpu => online\n", PLUG_CPU, "cpu0"), "is so already: online"));

	CHECK(says(decide("memory => offline\n", PLUG_MEMORY, "memory0"), "several zones"));
	CHECK(says(decide("memory => online_movable rezone\n", PLUG_MEMORY, "memory0"), "several zones"));
	CHECK(says(decide("memory => online_movable\n", PLUG_MEMORY, "memory9"), "'rezone' in line 1"));
	CHECK(!decide("memory => online_movable rezone\n", PLUG_MEMORY, "memory9"));
	CHECK(says(decide("memory => online_kernel\n", PLUG_MEMORY, "memory9"), "already"));
	CHECK(says(decide("memory => online\n", PLUG_MEMORY, "memory9"), "already"));
	CHECK(!decide("memory => offline\n", PLUG_MEMORY, "memory9"));
	CHECK(!decide("memory => online_movable\n", PLUG_MEMORY, "memory40"));
	CHECK(says(decide("memory => online_movable\n", PLUG_MEMORY, "memory41"), "no such zone"));
	CHECK(!decide("memory => online_kernel\n", PLUG_MEMORY, "memory41"));

	CHECK(says(decide("pci => no-driver\n", PLUG_PCI, "0000:00:06.0"), "PCI bridge"));
	CHECK(says(decide("pci => driver vfio-pci\n", PLUG_PCI, "0000:03:00.0"), "'rebind' in line 1"));
	CHECK(!decide("pci => driver vfio-pci rebind\n", PLUG_PCI, "0000:03:00.0"));
	CHECK(!decide("pci => driver vfio-pci\n", PLUG_PCI, "0000:03:00.1"));
	CHECK(says(decide("pci => driver e1000\n", PLUG_PCI, "0000:03:00.1"), "no PCI driver e1000"));
	CHECK(says(decide("pci => driver ixgbe\n", PLUG_PCI, "0000:03:00.0"), "already"));
	CHECK(!decide("pci => no-driver\n", PLUG_PCI, "0000:03:00.0"));
	CHECK(says(decide("pci => no-driver\n", PLUG_PCI, "0000:03:00.1"), "already"));

	CHECK(says(decide("net => vm web\n", PLUG_NETDEV, "eth0"), "no tap"));
	CHECK(says(decide("net => vm web\n", PLUG_NETDEV, "tap0"), "there is no VM called 'web'"));
	tree_free();
}

int main(void)
{
	RUN(good);
	RUN(bad);
	RUN(zero_byte);
	RUN(all_errors_are_named);
	RUN(files);
	RUN(matches);
	RUN(decisions);
	plug_policy_free(&policy);
	return tap_done();
}
