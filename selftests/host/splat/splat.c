// SPDX-License-Identifier: GPL-2.0
/*
 * Does to the kernel what the test host promises to notice: writing a name
 * to /sys/module/splat/parameters/do provokes that one misdeed.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <asm/desc.h>

static DEFINE_SPINLOCK(spin);
static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static void do_warn(void)
{
	WARN(1, "a warning was asked for");
}

static void do_oops(void)
{
	*(volatile int *)8 = 1;
}

/* No exception can be delivered: the CPU shuts down, and nobody can say a word. */
static void do_triple(void)
{
	const struct desc_ptr none = { 0 };

	local_irq_disable();
	load_idt(&none);
	asm volatile("int3");
}

/* A task that never gets its event, and cannot be killed. */
static int sleep_forever(void *never)
{
	wait_for_completion(never);
	return 0;
}

static void do_hang(void)
{
	static DECLARE_COMPLETION(never);

	kthread_run(sleep_forever, &never, "splat-hang");
}

static void do_leak(void)
{
	char *lost = kmalloc(321, GFP_KERNEL);

	if (lost)
		memset(lost, 0x5a, 321);
	barrier_data(lost);
}

static void do_lockdep(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void do_atomic(void)
{
	spin_lock(&spin);
	might_sleep();
	spin_unlock(&spin);
}

static void do_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static void do_uaf(void)
{
	char *gone = kmalloc(64, GFP_KERNEL);

	kfree(gone);
	OPTIMIZER_HIDE_VAR(gone);
	*(volatile char *)gone;
}

static void do_slab(void)
{
	struct kmem_cache *cache = kmem_cache_create("splat_cache", 100, 0, 0, NULL);

	if (cache && kmem_cache_alloc(cache, GFP_KERNEL))
		kmem_cache_destroy(cache);
}

/* A reference that nobody gives back: rmmod has to fail. */
static void do_busy(void)
{
	__module_get(THIS_MODULE);
}

static const struct {
	const char *name;
	void (*run)(void);
} deeds[] = {
	{ "warn", do_warn },
	{ "oops", do_oops },
	{ "triple", do_triple },
	{ "hang", do_hang },
	{ "leak", do_leak },
	{ "lockdep", do_lockdep },
	{ "atomic", do_atomic },
	{ "refcount", do_refcount },
	{ "uaf", do_uaf },
	{ "slab", do_slab },
	{ "busy", do_busy },
};

static int set_do(const char *value, const struct kernel_param *kp)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(deeds); i++)
		if (sysfs_streq(value, deeds[i].name)) {
			deeds[i].run();
			return 0;
		}
	return -EINVAL;
}

static const struct kernel_param_ops ops = { .set = set_do };
module_param_cb(do, &ops, NULL, 0200);

static int __init splat_init(void)
{
	return 0;
}
module_init(splat_init);

static void __exit splat_exit(void)
{
}
module_exit(splat_exit);

MODULE_DESCRIPTION("Provokes kernel reports");
MODULE_LICENSE("GPL");
