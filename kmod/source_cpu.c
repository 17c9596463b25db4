// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs: present as the cpu subsystem says, online as the hotplug states say.
 *
 * A CPU is online from its notification to its notification. cpu_online() says so
 * a little longer on the way down, and does not tell of a way down that failed.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/cpumask.h>
#include <linux/topology.h>
#include <net/netlink.h>

#include "event.h"

static struct cpumask online;		/* atomic bits */
static enum cpuhp_state state;

static int put_cpu_object(struct sk_buff *skb, const void *obj)
{
	const unsigned int cpu = *(const unsigned int *)obj;

	if (nla_put_u32(skb, VMPLAT_NL_CPU_NUMBER, cpu))
		return -EMSGSIZE;
	if (cpumask_test_cpu(cpu, &online) && nla_put_flag(skb, VMPLAT_NL_CPU_ONLINE))
		return -EMSGSIZE;
	return nla_put_s32(skb, VMPLAT_NL_CPU_NUMA_NODE, cpu_to_node(cpu));
}

static const struct vmplat_event_class cpu_class = {
	.class = VMPLAT_CLASS_CPU,
	.nest = VMPLAT_NL_A_CPU,
	.max_bytes = 64,
	.put = put_cpu_object,
};

static int went_online(unsigned int cpu)
{
	cpumask_set_cpu(cpu, &online);
	vmplat_event_change(&cpu_class, cpu, VMPLAT_ACTION_ONLINE, &cpu);
	return 0;
}

static int goes_offline(unsigned int cpu)
{
	cpumask_clear_cpu(cpu, &online);
	vmplat_event_change(&cpu_class, cpu, VMPLAT_ACTION_OFFLINE, &cpu);
	return 0;
}

static int notify(struct notifier_block *nb, unsigned long what, void *data)
{
	unsigned int cpu = ((struct device *)data)->id;

	if (what == BUS_NOTIFY_ADD_DEVICE)
		vmplat_event_add(&cpu_class, cpu, INVALID_UID,
				 VMPLAT_ACTION_ADD, &cpu);
	else if (what == BUS_NOTIFY_REMOVED_DEVICE)
		vmplat_event_remove(&cpu_class, cpu, VMPLAT_ACTION_REMOVE);
	return NOTIFY_DONE;
}

static struct notifier_block nb = { .notifier_call = notify };

static int found(struct device *dev, void *unused)
{
	unsigned int cpu = dev->id;

	vmplat_event_found(&cpu_class, cpu, &cpu);
	return 0;
}

int vmplat_source_cpu_init(void)
{
	int err;

	err = bus_register_notifier(&cpu_subsys, &nb);
	if (err)
		return err;
	err = bus_for_each_dev(&cpu_subsys, NULL, NULL, found);
	if (err)
		goto unregister;
	/* Calls went_online() for every CPU that is. */
	err = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "vmplat:event",
				went_online, goes_offline);
	if (err < 0)
		goto unregister;
	state = err;
	return 0;

unregister:
	bus_unregister_notifier(&cpu_subsys, &nb);
	return err;
}

void vmplat_source_cpu_exit(void)
{
	cpuhp_remove_state_nocalls(state);
	bus_unregister_notifier(&cpu_subsys, &nb);
}
