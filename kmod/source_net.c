// SPDX-License-Identifier: GPL-2.0
/*
 * Network devices of the initial network namespace. The notifier is called with
 * the RTNL held, and for devices that are there when it is registered, too.
 */
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <net/net_namespace.h>
#include <net/netlink.h>

#include "event.h"

static int put_netdev(struct sk_buff *skb, const void *obj)
{
	const struct net_device *dev = obj;
	const struct device *parent = dev->dev.parent;

	if (nla_put_u32(skb, VMPLAT_NL_NET_IFINDEX, dev->ifindex) ||
	    nla_put_string(skb, VMPLAT_NL_NET_NAME, dev->name) ||
	    nla_put_u32(skb, VMPLAT_NL_NET_MTU, dev->mtu))
		return -EMSGSIZE;
	if (dev->addr_len &&
	    nla_put(skb, VMPLAT_NL_NET_ADDRESS, dev->addr_len, dev->dev_addr))
		return -EMSGSIZE;
	if (dev->flags & IFF_UP && nla_put_flag(skb, VMPLAT_NL_NET_UP))
		return -EMSGSIZE;
	if (netif_carrier_ok(dev) && nla_put_flag(skb, VMPLAT_NL_NET_CARRIER))
		return -EMSGSIZE;
	if (parent && dev_is_pci(parent) &&
	    nla_put_string(skb, VMPLAT_NL_NET_DEVICE, dev_name(parent)))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class net_class = {
	.class = VMPLAT_CLASS_NET,
	.nest = VMPLAT_NL_A_NET,
	.max_bytes = 192,
	.put = put_netdev,
};

static int notify(struct notifier_block *nb, unsigned long what, void *data)
{
	struct net_device *dev = netdev_notifier_info_to_dev(data);

	if (!net_eq(dev_net(dev), &init_net))
		return NOTIFY_DONE;
	switch (what) {
	case NETDEV_REGISTER:
		vmplat_event_add(&net_class, dev->ifindex, INVALID_UID,
				 VMPLAT_ACTION_ADD, dev);
		break;
	case NETDEV_UNREGISTER:
		vmplat_event_remove(&net_class, dev->ifindex,
				    VMPLAT_ACTION_REMOVE);
		break;
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
	case NETDEV_CHANGEADDR:
	case NETDEV_CHANGEMTU:
	case NETDEV_CHANGENAME:
		vmplat_event_change(&net_class, dev->ifindex,
				    VMPLAT_ACTION_CHANGE, dev);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block nb = { .notifier_call = notify };

int vmplat_source_net_init(void)
{
	return register_netdevice_notifier(&nb);
}

void vmplat_source_net_exit(void)
{
	unregister_netdevice_notifier(&nb);
}
