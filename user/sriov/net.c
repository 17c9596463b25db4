// SPDX-License-Identifier: GPL-2.0-only
/* VF attributes through rtnetlink, by libnl-route. One group a message: an error then names it. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/link.h>
#include <netlink/route/link/sriov.h>

#include "sriov/sriov.h"

struct sriov_net {
	struct nl_sock *sock;
};

/* libnl's numbers are not errno's. */
static int net_errno(int nlerr)
{
	switch (-nlerr) {
	case NLE_NOMEM: return -ENOMEM;
	case NLE_PERM: return -EPERM;
	case NLE_NODEV: return -ENODEV;
	case NLE_OPNOTSUPP: return -EOPNOTSUPP;
	case NLE_RANGE: return -ERANGE;
	case NLE_BUSY: return -EBUSY;
	case NLE_INVAL: return -EINVAL;
	default: return -EIO;
	}
}

int sriov_net_open(struct sriov_net **out)
{
	struct sriov_net *net = calloc(1, sizeof(*net));
	int err;

	*out = NULL;
	if (net)
		net->sock = nl_socket_alloc();
	if (!net || !net->sock) {
		free(net);
		return sriov_fail(-ENOMEM, "out of memory");
	}
	err = nl_connect(net->sock, NETLINK_ROUTE);
	if (err) {
		sriov_net_close(net);
		return sriov_fail(net_errno(err), "rtnetlink: %s", nl_geterror(err));
	}
	*out = net;
	return 0;
}

void sriov_net_close(struct sriov_net *net)
{
	if (!net)
		return;
	nl_socket_free(net->sock);
	free(net);
}

/* ---- reading ----------------------------------------------------------------
 *
 * Attribute by attribute, not through rtnl_link_vf_get(): that leaves out rates and VLANs of 0, which
 * are values like others, and falls over interfaces that have VFs and tell nothing about them.
 */

struct reading {
	struct sriov_vf *vfs;
	unsigned int nr;
};

static void know(struct sriov_values *to, enum sriov_attr a, uint64_t v)
{
	to->has |= 1u << a;
	to->v[a] = v;
}

/* The struct of an attribute, or NULL; @bytes of it are there. */
static const void *body(struct nlattr *const *tb, int type, size_t bytes)
{
	return tb[type] && nla_len(tb[type]) >= (int)bytes ? nla_data(tb[type]) : NULL;
}

static void read_vlan(struct nlattr *const *tb, struct sriov_values *to)
{
	const struct ifla_vf_vlan *vlan = body(tb, IFLA_VF_VLAN, sizeof(*vlan));
	struct nlattr *a;
	int rest;

	if (vlan) {
		know(to, SRIOV_VLAN, vlan->vlan);
		know(to, SRIOV_QOS, vlan->qos);
	}
	if (!tb[IFLA_VF_VLAN_LIST])
		return;
	nla_for_each_nested(a, tb[IFLA_VF_VLAN_LIST], rest) {
		const struct ifla_vf_vlan_info *info = nla_data(a);

		/* drivers that know no other protocol may tell 0 */
		if (nla_len(a) >= (int)sizeof(*info))
			know(to, SRIOV_PROTO, ntohs(info->vlan_proto) ?: ETH_P_8021Q);
		break;
	}
}

static void read_vf(struct nlattr *const *tb, struct sriov_values *to)
{
	const struct ifla_vf_mac *mac = body(tb, IFLA_VF_MAC, sizeof(*mac));
	const struct ifla_vf_rate *rate = body(tb, IFLA_VF_RATE, sizeof(*rate));
	const struct ifla_vf_spoofchk *spoof = body(tb, IFLA_VF_SPOOFCHK, sizeof(*spoof));
	const struct ifla_vf_trust *trust = body(tb, IFLA_VF_TRUST, sizeof(*trust));
	const struct ifla_vf_link_state *link = body(tb, IFLA_VF_LINK_STATE, sizeof(*link));
	uint64_t v = 0;

	for (int i = 0; mac && i < ETH_ALEN; i++)
		v = v << 8 | mac->mac[i];
	if (mac)
		know(to, SRIOV_MAC, v);
	read_vlan(tb, to);
	if (rate) {
		know(to, SRIOV_MIN_RATE, rate->min_tx_rate);
		know(to, SRIOV_MAX_RATE, rate->max_tx_rate);
	}
	/* -1: the driver has none */
	if (spoof && spoof->setting != UINT32_MAX)
		know(to, SRIOV_SPOOFCHK, !!spoof->setting);
	if (trust && trust->setting != UINT32_MAX)
		know(to, SRIOV_TRUST, !!trust->setting);
	if (link && link->link_state <= IFLA_VF_LINK_STATE_DISABLE)
		know(to, SRIOV_LINK, link->link_state);
}

static int read_link(struct nl_msg *msg, void *arg)
{
	struct reading *r = arg;
	struct nlattr *tb[IFLA_MAX + 1], *vf[IFLA_VF_MAX + 1], *info;
	int rest;

	if (nlmsg_parse(nlmsg_hdr(msg), sizeof(struct ifinfomsg), tb, IFLA_MAX, NULL) < 0 ||
	    !tb[IFLA_VFINFO_LIST])
		return NL_OK;
	nla_for_each_nested(info, tb[IFLA_VFINFO_LIST], rest) {
		const struct ifla_vf_mac *mac;

		if (nla_parse_nested(vf, IFLA_VF_MAX, info, NULL) < 0)
			continue;
		mac = body(vf, IFLA_VF_MAC, sizeof(*mac));
		if (mac && mac->vf < r->nr)
			read_vf(vf, &r->vfs[mac->vf].values);
	}
	return NL_OK;
}

int sriov_net_get(struct sriov_net *net, int ifindex, struct sriov_vf *vfs, unsigned int nr)
{
	struct reading r = { vfs, nr };
	struct nl_msg *msg;
	int err = rtnl_link_build_get_request(ifindex, NULL, &msg);

	if (!err) {
		nl_socket_modify_cb(net->sock, NL_CB_VALID, NL_CB_CUSTOM, read_link, &r);
		err = nl_send_auto(net->sock, msg);
		nlmsg_free(msg);
	}
	if (err >= 0)
		err = nl_recvmsgs_default(net->sock);
	if (err >= 0)
		err = nl_wait_for_ack(net->sock);
	return err < 0 ? sriov_fail(net_errno(err), "the VFs' attributes cannot be read: %s",
				    nl_geterror(err)) : 0;
}

/* ---- writing ------------------------------------------------------------------ */

static int write_mac(struct rtnl_link_vf *vf, uint64_t mac)
{
	uint8_t b[ETH_ALEN];
	struct nl_addr *addr;

	for (int i = 0; i < ETH_ALEN; i++)
		b[i] = (uint8_t)(mac >> 8 * (ETH_ALEN - 1 - i));
	addr = nl_addr_build(AF_LLC, b, sizeof(b));
	if (!addr)
		return -NLE_NOMEM;
	rtnl_link_vf_set_addr(vf, addr);	/* takes a reference of its own */
	nl_addr_put(addr);
	return 0;
}

static int write_vlan(struct rtnl_link_vf *vf, const struct sriov_values *v)
{
	nl_vf_vlans_t *vlans;
	int err = rtnl_link_vf_vlan_alloc(&vlans, 1);

	if (err)
		return err;
	vlans->vlans[0].vf_vlan = (uint32_t)v->v[SRIOV_VLAN];
	vlans->vlans[0].vf_vlan_qos = (uint32_t)v->v[SRIOV_QOS];
	/* libnl hands any other than 802.1Q on as it is, and the kernel reads it big-endian */
	vlans->vlans[0].vf_vlan_proto = v->v[SRIOV_PROTO] == ETH_P_8021Q ? ETH_P_8021Q :
					htons((uint16_t)v->v[SRIOV_PROTO]);
	rtnl_link_vf_set_vlans(vf, vlans);	/* takes a reference of its own */
	rtnl_link_vf_vlan_put(vlans);
	return 0;
}

static void write_rate(struct rtnl_link_vf *vf, const struct sriov_values *v)
{
	struct nl_vf_rate rate = {
		.api = RTNL_LINK_VF_RATE_API_NEW,
		.min_tx_rate = (uint32_t)v->v[SRIOV_MIN_RATE],
		.max_tx_rate = (uint32_t)v->v[SRIOV_MAX_RATE],
	};

	rtnl_link_vf_set_rate(vf, &rate);
}

static int fill(struct rtnl_link_vf *vf, enum sriov_group g, const struct sriov_values *v)
{
	switch (g) {
	case SRIOV_G_MAC:
		return write_mac(vf, v->v[SRIOV_MAC]);
	case SRIOV_G_VLAN:
		return write_vlan(vf, v);
	case SRIOV_G_RATE:
		write_rate(vf, v);
		return 0;
	case SRIOV_G_SPOOFCHK:
		rtnl_link_vf_set_spoofchk(vf, (uint32_t)v->v[SRIOV_SPOOFCHK]);
		return 0;
	case SRIOV_G_TRUST:
		rtnl_link_vf_set_trust(vf, (uint32_t)v->v[SRIOV_TRUST]);
		return 0;
	case SRIOV_G_LINK:
		rtnl_link_vf_set_linkstate(vf, (uint32_t)v->v[SRIOV_LINK]);
		return 0;
	default:
		return -NLE_OPNOTSUPP;
	}
}

static int change(struct sriov_net *net, int ifindex, struct rtnl_link *by, struct rtnl_link_vf *vf)
{
	struct rtnl_link *link;
	int err = rtnl_link_vf_add(by, vf);

	if (err)
		return err;
	link = rtnl_link_alloc();
	if (!link)
		return -NLE_NOMEM;
	rtnl_link_set_ifindex(link, ifindex);
	err = rtnl_link_change(net->sock, link, by, 0);
	rtnl_link_put(link);
	return err;
}

int sriov_net_set(struct sriov_net *net, int ifindex, unsigned int i, enum sriov_group g,
		  const struct sriov_values *v)
{
	struct rtnl_link *by = rtnl_link_alloc();
	struct rtnl_link_vf *vf = rtnl_link_vf_alloc();
	int err = by && vf ? 0 : -NLE_NOMEM;

	if (!err) {
		rtnl_link_vf_set_index(vf, i);
		err = fill(vf, g, v);
	}
	if (!err)
		err = change(net, ifindex, by, vf);
	if (vf)
		rtnl_link_vf_put(vf);
	if (by)
		rtnl_link_put(by);
	return err ? sriov_fail(net_errno(err), "%s", nl_geterror(err)) : 0;
}
