// SPDX-License-Identifier: GPL-2.0
/*
 * Memories, logs, views and domains of this module. Their files call the hooks here in one
 * line each.
 *
 * A log has reached its threshold when poll() would say so, and has not once
 * marks were taken from it and fewer are left. In between it is not looked at again: the
 * count of marks may run ahead of the harvest, and would go up and down.
 */
#include <linux/cred.h>
#include <linux/kdev_t.h>
#include <net/netlink.h>

#include "domain.h"
#include "event.h"
#include "vmplat.h"

/* ---- memories --------------------------------------------------------------- */

static int put_mem(struct sk_buff *skb, const void *obj)
{
	struct vmplat_mem *mem = (struct vmplat_mem *)obj;
	const struct inode *inode = &mem->inode;

	if (nla_put_u64_64bit(skb, VMPLAT_NL_MEM_BYTES, i_size_read(inode),
			      VMPLAT_NL_MEM_PAD) ||
	    nla_put_u64_64bit(skb, VMPLAT_NL_MEM_DEV,
			      huge_encode_dev(inode->i_sb->s_dev),
			      VMPLAT_NL_MEM_PAD) ||
	    nla_put_u64_64bit(skb, VMPLAT_NL_MEM_INO, inode->i_ino,
			      VMPLAT_NL_MEM_PAD))
		return -EMSGSIZE;
	return nla_put_u32(skb, VMPLAT_NL_MEM_FILL, vmplat_fill_state(mem));
}

static const struct vmplat_event_class mem_class = {
	.class = VMPLAT_CLASS_MEM,
	.nest = VMPLAT_NL_A_MEM,
	.max_bytes = 96,
	.put = put_mem,
};

void vmplat_event_mem_created(struct vmplat_mem *mem)
{
	vmplat_event_add(&mem_class, mem->id, mem->inode.i_uid,
			 VMPLAT_ACTION_ADD, mem);
}

/* Nothing for memories that were not announced: files still on their way. */
void vmplat_event_mem_changed(struct vmplat_mem *mem)
{
	vmplat_event_change(&mem_class, mem->id, VMPLAT_ACTION_CHANGE, mem);
}

void vmplat_event_mem_removed(struct vmplat_mem *mem)
{
	cancel_work_sync(&mem->event_work);
	vmplat_event_remove(&mem_class, mem->id, VMPLAT_ACTION_REMOVE);
}

/* ---- logs --------------------------------------------------------------------- */

static int put_log(struct sk_buff *skb, const void *obj)
{
	const struct vmplat_log *log = obj;

	if (nla_put_u64_64bit(skb, VMPLAT_NL_LOG_MEM, log->mem->id,
			      VMPLAT_NL_LOG_PAD))
		return -EMSGSIZE;
	if (log->threshold &&
	    nla_put_u64_64bit(skb, VMPLAT_NL_LOG_THRESHOLD_PAGES,
			      log->threshold, VMPLAT_NL_LOG_PAD))
		return -EMSGSIZE;
	if (log->reached && nla_put_flag(skb, VMPLAT_NL_LOG_REACHED))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class log_class = {
	.class = VMPLAT_CLASS_LOG,
	.nest = VMPLAT_NL_A_LOG,
	.max_bytes = 64,
	.put = put_log,
};

void vmplat_event_log_created(struct vmplat_log *log)
{
	log->event_id = vmplat_event_new_id();
	vmplat_event_add(&log_class, log->event_id, current_uid(),
			 VMPLAT_ACTION_ADD, log);
	/* It may have reached its threshold before anybody could be told. */
	queue_work(system_wq, &log->mem->event_work);
}

void vmplat_event_log_removed(struct vmplat_log *log)
{
	vmplat_event_remove(&log_class, log->event_id, VMPLAT_ACTION_REMOVE);
}

static u64 missing_marks(const struct vmplat_log *log)
{
	return log->threshold > log->marked.nr ? log->threshold - log->marked.nr : 0;
}

/* vmplat_event_log_marked - the logs of @mem may have more marks than before */
void vmplat_event_log_marked(struct vmplat_mem *mem)
{
	struct vmplat_log *log;
	u64 at = U64_MAX;

	lockdep_assert_held(&mem->lock);
	list_for_each_entry(log, &mem->logs, link)
		if (log->threshold && !log->reached)
			at = min(at, missing_marks(log));
	WRITE_ONCE(mem->event_at, at);
	/* Pairs with inc_return() before the look at @event_at, vmplat_dirty_set(). */
	smp_mb();
	list_for_each_entry(log, &mem->logs, link) {
		if (!log->threshold || log->reached || !log->event_id ||
		    atomic64_read(&mem->nr_dirty) < missing_marks(log))
			continue;
		log->reached = true;
		vmplat_event_change(&log_class, log->event_id,
				    VMPLAT_ACTION_THRESHOLD, log);
	}
}

/* vmplat_event_log_taken - marks of @log were handed out */
void vmplat_event_log_taken(struct vmplat_log *log)
{
	lockdep_assert_held(&log->mem->lock);
	if (!log->reached || log->marked.nr >= log->threshold)
		return;
	log->reached = false;
	vmplat_event_change(&log_class, log->event_id, VMPLAT_ACTION_CHANGE, log);
	vmplat_event_log_marked(log->mem);
}

static void look_at_logs(struct work_struct *work)
{
	struct vmplat_mem *mem = container_of(work, struct vmplat_mem, event_work);

	mutex_lock(&mem->lock);
	vmplat_event_log_marked(mem);
	mutex_unlock(&mem->lock);
}

/* vmplat_event_log_dirty - mem->event_at pages wait for a harvest; any context */
void vmplat_event_log_dirty(struct vmplat_mem *mem)
{
	queue_work(system_wq, &mem->event_work);
}

void vmplat_event_mem_init(struct vmplat_mem *mem)
{
	INIT_WORK(&mem->event_work, look_at_logs);
	mem->event_at = U64_MAX;
}

/* ---- views ---------------------------------------------------------------------- */

static int put_view(struct sk_buff *skb, const void *obj)
{
	struct vmplat_view_desc d;
	u32 i;

	vmplat_view_describe(obj, &d);
	for (i = 0; i < d.nr_mems; i++)
		if (nla_put_u64_64bit(skb, VMPLAT_NL_VIEW_MEM, d.mems[i],
				      VMPLAT_NL_VIEW_PAD))
			return -EMSGSIZE;
	if (nla_put_u64_64bit(skb, VMPLAT_NL_VIEW_BYTES, d.bytes,
			      VMPLAT_NL_VIEW_PAD) ||
	    nla_put_u32(skb, VMPLAT_NL_VIEW_STATE, d.state))
		return -EMSGSIZE;
	if (d.side_limit &&
	    nla_put_u64_64bit(skb, VMPLAT_NL_VIEW_SIDE_LIMIT, d.side_limit,
			      VMPLAT_NL_VIEW_PAD))
		return -EMSGSIZE;
	if (d.side_high && nla_put_flag(skb, VMPLAT_NL_VIEW_SIDE_HIGH))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class view_class = {
	.class = VMPLAT_CLASS_VIEW,
	.nest = VMPLAT_NL_A_VIEW,
	.max_bytes = VMPLAT_EVENT_OBJECT_BYTES,
	.put = put_view,
};

void vmplat_event_view_created(struct vmplat_view *view)
{
	vmplat_event_add(&view_class, vmplat_view_id(view), current_uid(),
			 VMPLAT_ACTION_ADD, view);
}

/* vmplat_event_view_changed - any context */
void vmplat_event_view_changed(struct vmplat_view *view,
			       enum vmplat_action action)
{
	vmplat_event_change(&view_class, vmplat_view_id(view), action, view);
}

void vmplat_event_view_removed(struct vmplat_view *view)
{
	vmplat_event_remove(&view_class, vmplat_view_id(view),
			    VMPLAT_ACTION_REMOVE);
}

/* ---- domains -------------------------------------------------------------------- */

/* Whoever changes what is put here holds the domain's lock, or is the only one. */
static int put_domain(struct sk_buff *skb, const void *obj)
{
	const struct vmplat_domain *domain = obj;
	const struct vmplat_group *g;

	list_for_each_entry(g, &domain->groups, link)
		if (nla_put_u32(skb, g->attached ? VMPLAT_NL_DOMAIN_GROUP :
						   VMPLAT_NL_DOMAIN_QUARANTINED,
				iommu_group_id(g->group)))
			return -EMSGSIZE;
	if (domain->nr_high && nla_put_flag(skb, VMPLAT_NL_DOMAIN_MAPPINGS_HIGH))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class domain_class = {
	.class = VMPLAT_CLASS_DOMAIN,
	.nest = VMPLAT_NL_A_DOMAIN,
	.max_bytes = 16 + 8 * VMPLAT_DOMAIN_MAX_GROUPS,
	.put = put_domain,
};

void vmplat_event_domain_created(struct vmplat_domain *domain)
{
	domain->id = vmplat_event_new_id();
	vmplat_event_add(&domain_class, domain->id, current_uid(),
			 VMPLAT_ACTION_ADD, domain);
}

/* vmplat_event_domain_changed - domain->lock is held */
void vmplat_event_domain_changed(struct vmplat_domain *domain,
				 enum vmplat_action action)
{
	lockdep_assert_held(&domain->lock);
	vmplat_event_change(&domain_class, domain->id, action, domain);
}

void vmplat_event_domain_removed(struct vmplat_domain *domain)
{
	vmplat_event_remove(&domain_class, domain->id, VMPLAT_ACTION_REMOVE);
}
