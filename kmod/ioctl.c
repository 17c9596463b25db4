// SPDX-License-Identifier: GPL-2.0
/*
 * One dispatcher for every ioctl of every object: sizes, tails, flags and the
 * order "nothing is published before nothing can fail any more" are decided
 * here, so that the commands only hold what is theirs.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmplat.h"

/* Every argument begins with these two. */
struct head {
	u32 size;
	u32 flags;
};

#define MAX_ARG_BYTES	128

static const struct vmplat_ioctl_op *
find_op(const struct vmplat_ioctl_op *ops, size_t nr_ops, unsigned int cmd)
{
	size_t i;

	for (i = 0; i < nr_ops; i++)
		if (cmd == _IO(VMPLAT_IOC_TYPE, ops[i].nr))
			return &ops[i];
	return NULL;
}

/*
 * Copy the argument in, and prove that it can be copied out: after the command
 * ran, a failing copy could no longer be told from one that changed nothing.
 */
static int read_arg(const struct vmplat_ioctl_op *op, void __user *uarg,
		    struct head *arg)
{
	u32 size;
	int err;

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)	/* no struct will ever be: do not read it all */
		return -E2BIG;
	err = copy_struct_from_user(arg, op->size, uarg, size);
	if (err)
		return err;
	arg->size = size;	/* what was checked, not what is there now */
	if (copy_to_user(uarg, arg, min_t(u32, size, op->size)))
		return -EFAULT;
	if (arg->flags & ~op->flags)
		return -EOPNOTSUPP;
	return 0;
}

/**
 * vmplat_ioctl - find, read, execute and answer one command
 * @file: the file it was called on
 * @cmd: as given to ioctl(2)
 * @uarg: as given to ioctl(2)
 * @ops: the commands of this kind of file
 * @nr_ops: how many
 */
long vmplat_ioctl(struct file *file, unsigned int cmd, unsigned long uarg,
		  const struct vmplat_ioctl_op *ops, size_t nr_ops)
{
	const struct vmplat_ioctl_op *op = find_op(ops, nr_ops, cmd);
	void __user *ubuf = (void __user *)uarg;
	u64 buf[MAX_ARG_BYTES / sizeof(u64)] = {};
	struct vmplat_cmd c = { .file = file, .arg = buf };
	struct head *head = c.arg;
	int fd = -1;
	int err;

	if (!op)
		return -ENOTTY;
	if (WARN_ON_ONCE(op->size > sizeof(buf)))
		return -ENOTTY;
	err = read_arg(op, ubuf, head);
	if (err)
		return err;

	err = op->execute(&c);
	if (err && !c.new_file) {
		/* Outputs that count progress are worth having on an error. */
		if (copy_to_user(ubuf, c.arg, min_t(u32, head->size, op->size)))
			return -EFAULT;
		return err;
	}

	if (c.new_file) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		if (fd < 0) {
			fput(c.new_file);
			return fd;
		}
		*c.new_fd = fd;
	}
	if (copy_to_user(ubuf, c.arg, min_t(u32, head->size, op->size))) {
		if (c.new_file) {
			put_unused_fd(fd);
			fput(c.new_file);
		}
		return -EFAULT;
	}
	if (c.new_file)
		fd_install(fd, c.new_file);
	return 0;
}

/* vmplat_check_range - is [first, first + nr) within limit pages, and not empty? */
int vmplat_check_range(u64 first, u64 nr, u64 limit)
{
	u64 end;

	if (!nr)
		return -EINVAL;
	if (check_add_overflow(first, nr, &end))
		return -EOVERFLOW;
	if (end > limit)
		return -ERANGE;
	return 0;
}
